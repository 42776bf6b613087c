"""The door of spec files: texts of runs, trainings and studies, and tables of levels.

The first byte says which: Y and J a run as YAML and JSON, T a training, S the building of a study, E levels.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from charpy.identity import spec_values
from charpy.own_levels import digest_of, own_levels
from charpy.plugins import Registry, registry
from charpy.specfile import load_spec
from charpy.specs import ComponentSpec, OwnLevels, RunSpec, parse
from charpy.subjects import open_dataset, subject_of
from charpy.threat import Norm
from fuzzing.door import Door, WrongAnswerError
from fuzzing.noise import changed, noise

ROOT = Path(__file__).resolve().parents[2]

RUNS = (
    {"data": {"kind": "digits", "samples": 9}, "models": [{"reference": "digits-cnn"}],
     "threats": [{"norm": "l0", "levels": [1], "queries": 10, "battery": [{"kind": "corner_pixels"}]}],
     "metrics": [{"kind": "linf", "params": {"scale": 255}}], "certify": {"certifiers": [{"kind": "few_pixels"}]},
     "limits": {"unit_seconds": 9, "memory_gib": 2.5}, "gates": ["l0 th=1 robust_accuracy >= 0.4"]},
    {"data": {"kind": "npz", "params": {"path": "x.npz"}, "seed": 3},
     "models": [{"name": "a", "reference": "net.onnx"}, {"kind": "onnx", "params": {"path": "b.onnx", "mean": [0.5]},
                 "defenses": [{"kind": "jpeg", "params": {}}], "attackers": ["adaptive", "static"]}],
     "threats": [{"norm": "l2", "levels": "minimal", "goal": "targeted"},
                 {"norm": "linf", "levels": {"path": "e.json"}}],
     "grid": "none", "carry": False, "shard": 4, "batch_size": 2, "executor": {"kind": "worker"}},
)  # fmt: skip
STUDY = {
    "conditions": {"benign": {}, "other": {"kind": "perceptible"}},
    "sizes": [1, 4],
    "labels": ["a", "b"],
    "seed": 1,
}
LEVELS = {
    "schema": "charpy/eps/1", "norm": "linf", "data": {"name": "d", "fingerprint": "f" * 64},
    "samples": {"d/00000": 3, "d/00001": 0}, "rule": "half",
}  # fmt: skip
TOKENS = (
    "!!python/name:os.system", "!x", "&a ", "*a", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! x:\n", "? ", ": ", "- ",
    "|\n", ">2\n", "\t", "\ufeff", "\u2028", "\x85", "\0", "#", "<<: ", "'", '"', "\\", "\\ud800", "\\x", "[", "]", "{",
    "}", ",", "0x1F", "010", "1_0", ".inf", ".nan", "1e999", "1" * 50, "1" * 5000, "~", "yes", "=", "2020-01-01",
    "12:30:45", "[" * 40, "{a: " * 40, "@", "`", "\n  ", "\r",
)  # fmt: skip


class Specs(Door):
    """Text of a spec, read, parsed, and every component in it looked up and its parameters checked."""

    name, title = "spec", "spec files"
    ways = "values, names and structure of YAML and JSON trees; YAML's own signs put into the text; bytes"

    def seeds(self) -> list[bytes]:
        """The examples, the specs of the pages, and small ones that name every field."""
        texts = [b"Y" + path.read_bytes() for path in sorted((ROOT / "examples").glob("[ds]*.yaml"))]
        texts += [b"T" + (ROOT / "examples" / "train.yaml").read_bytes()]
        for page in sorted((ROOT / "docs").glob("*.md")):
            blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
            texts += [b"Y" + block.encode() for block in blocks if "models:" in block]
        texts += [kind + json.dumps(run).encode() for run in RUNS for kind in (b"Y", b"J")]
        return [*texts, b"S" + json.dumps(STUDY).encode(), b"E" + json.dumps(LEVELS).encode()]

    def mutate(self, data: bytes, random: Random) -> bytes:
        """A changed tree two times in three, else a changed text or changed bytes."""
        kind, text = data[:1] or b"Y", data[1:].decode(errors="replace")
        way = random.random()
        if way < 0.65:
            tree = _tree(text)
            if tree is not None:
                return kind + _written(changed(tree, random, _words()), random, kind)
        if way < 0.9:
            for _ in range(random.choice((1, 1, 2, 4))):
                place = random.randrange(len(text) + 1)
                text = text[:place] + random.choice(TOKENS) + text[place + random.choice((0, 0, 1, 5)) :]
            return kind + text.encode(errors="surrogatepass")
        return noise(data, random)

    def open(self, data: bytes, folder: Path) -> None:
        """As a command would; the files that the spec names are not there."""
        kind = data[:1]
        path = folder / ("spec.json" if kind in b"JE" else "spec.yaml")
        path.write_bytes(data[1:])
        if kind == b"T":
            from charpy_models.spec import load_train_spec

            _reads_back(load_train_spec(path))
        elif kind == b"S":
            from charpy_plugins.study.build.spec import read_build_spec

            _reads_back(read_build_spec(path, {}, None))
        elif kind == b"E":
            levels = OwnLevels(path=str(path))
            found = own_levels(Norm.LINF, levels, _Known(), ["d/00000", "d/00001"])
            digest_of(levels)
            if not all(isinstance(level, int) and 0 <= level <= 127 for level in found):
                raise WrongAnswerError(f"levels that are none: {found}")
        else:
            _looked_up(load_spec(path), registry())


class _Known:
    """The dataset of `LEVELS`, as far as levels ask for it."""

    shape = (1, 8, 8)

    def fingerprint(self) -> str:
        return "f" * 64


def _reads_back(spec: Any) -> None:
    """What was read can be written down and read again, the same."""
    text = spec.model_dump_json()
    if type(spec).model_validate_json(text, strict=True) != spec:
        raise WrongAnswerError(f"a {type(spec).__name__} that does not read back: {text[:300]}")


def _looked_up(spec: RunSpec, plugins: Registry) -> None:
    _reads_back(spec)
    if parse(RunSpec, spec.model_dump(mode="json"), where="again") != spec:
        raise WrongAnswerError("a spec that does not parse back: see the file")
    spec_values(spec)
    parts: list[tuple[str, ComponentSpec]] = [("datasets", spec.data), ("executors", spec.executor)]
    parts += [("metrics", metric) for metric in spec.metrics]
    parts += [("certifiers", part) for part in spec.certify.certifiers if not isinstance(part, str)]
    for model in spec.models:
        subject = subject_of(model, plugins)
        parts += [("models", ComponentSpec(kind=subject.kind, params=model.params))] if model.kind else []
        parts += [("defenses", defense) for defense in model.defenses]
    for threat in spec.threats:
        parts += [("attacks", step) for step in threat.battery if not isinstance(step, str)]
    for hook, part in parts:
        component = plugins.load(hook, part.kind)
        parse(component.Params, part.params, where=f"{hook[:-1]} {part.kind}")
    _opened(spec, plugins)


def _opened(spec: RunSpec, plugins: Registry) -> None:
    """The files that it names, which are not there."""
    for threat in spec.threats:
        if isinstance(threat.levels, OwnLevels):
            digest_of(threat.levels)
    for model in spec.models:
        subject = subject_of(model, plugins)
        if subject.kind == "onnx":
            subject.open()
    path = str(spec.data.params.get("path", ""))
    if spec.data.kind in ("npz", "folder") and ("\0" in path or not os.path.isdir(path)):
        open_dataset(spec.data, plugins)


@cache
def _words() -> tuple[str, ...]:
    """Names of fields and kinds."""
    fields = {word for path in (RUNS, STUDY, LEVELS) for word in re.findall(r"[a-z0-9_]{2,}", json.dumps(path))}
    fields |= set(re.findall(r'"([a-z_]+)":', json.dumps(RunSpec.model_json_schema())))
    foreign = {"art", "foolbox", "torchattacks"}  # seconds to import
    return tuple(sorted(fields | {entry.kind for entry in registry().entries()} - foreign))


def _tree(text: str) -> Any:
    """The text as plain data, if it is any that can be read without harm."""
    from ruamel.yaml import YAML

    if len(text) > 20_000 or any(sign in text for sign in "&*"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    except RecursionError:
        return None
    try:
        return YAML(typ="safe", pure=True).load(text)
    except Exception:  # noqa: BLE001 - whatever ruamel finds in a broken text
        return None


def _written(tree: Any, random: Random, kind: bytes) -> bytes:
    """The tree as JSON, which is YAML; for YAML sometimes without quotation marks."""
    try:
        text = json.dumps(tree, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 1)), default=str)
    except (ValueError, RecursionError):  # keys of several types, or a tree inside itself
        return b"{}"
    if kind not in b"JE" and random.random() < 0.5:
        text = re.sub(r'"([A-Za-z0-9_./+-]+)"', r"\1", text)
    return text.encode(errors="surrogatepass")
