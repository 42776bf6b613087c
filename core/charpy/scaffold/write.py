"""Writes a plugin package from the templates; what is already there is never touched."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from charpy.errors import SpecError, unknown_name
from charpy.scaffold.names import Names


@dataclass(frozen=True)
class Part:
    """One kind of component: its hook, the file that holds it, its class and the contract class of its tests."""

    hook: str
    file: str
    cls: str
    contract: str


PARTS: Mapping[str, Part] = {
    "attack": Part("attacks", "sign_search", "SignSearch", "AttackContract"),
    "metric": Part("metrics", "block_mean", "BlockMean", "MetricContract"),
    "defense": Part("defenses", "local_mean", "LocalMean", "DefenseContract"),
    "model": Part("models", "nearest_mean", "NearestMean", "ModelContract"),
    "certifier": Part("certifiers", "linear_margin", "LinearMargin", "CertifierContract"),
    "dataset": Part("datasets", "noisy_digits", "NoisyDigits", "DatasetContract"),
}
WHOLE = ("pyproject.toml", "README.md", "example.yaml", "tests/test_contracts.py", "src/__init__.py", "src/plugin.py")


def kinds_of(text: str) -> list[str]:
    """The parts of a list such as `attack,metric`, each once, in the order of `PARTS`.

    Raises:
        UnknownNameError: a part that there is no template of; the nearest are named.
    """
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    for part in asked:
        if part not in PARTS:
            raise unknown_name("kind of component", part, PARTS, where="--kinds")
    if not asked:
        raise SpecError("no kind of component", where="--kinds", found=repr(text), expected=", ".join(PARTS),
                        hint="--kinds attack,metric")  # fmt: skip
    return [part for part in PARTS if part in asked]


def rendered(names: Names, kinds: Sequence[str]) -> dict[str, str]:
    """Path in the package -> text of each file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    parts = {kind: PARTS[kind] for kind in kinds}
    facts: dict[str, Any] = {"package": names.package, "module": names.module, "parts": parts}
    facts["kind"] = {kind: f"{names.module}_{part.file}" for kind, part in parts.items()}
    files = {*WHOLE, *(f"src/{part.file}.py" for part in parts.values())}
    place = {name: name.replace("src/", f"src/{names.module}/") for name in files}
    return {place[name]: environment.get_template(name.replace("/", "_")).render(facts) for name in sorted(files)}


def write(names: Names, kinds: Sequence[str], folder: Path) -> list[Path]:
    """Write the package into `folder`, which must not exist or be empty; the paths written, in order.

    Raises:
        SpecError: something is there, or the folder cannot be made.
    """
    files = rendered(names, kinds)
    where = "charpy new-plugin"
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise SpecError(
            "something is there already, and nothing is overwritten",
            where=where,
            found=folder,
            expected="a folder that does not exist yet, or an empty one",
            hint="give another --out, or another name",
        )
    written = []
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
                file.write(text)
            written.append(path)
    except OSError as cause:
        raise SpecError(
            "the package cannot be written",
            where=where,
            found=f"{type(cause).__name__}: {cause.strerror or cause}",
            expected="a folder that can be written to",
            hint="give another --out",
        ) from None
    return written


def _template(name: str) -> str:
    return resources.files("charpy.scaffold").joinpath("templates", f"{name}.j2").read_text(encoding="utf-8")
