"""From the words of the command line to parts of a spec: data references, lists of levels and norms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from charpy.errors import SpecError, unknown_name
from charpy.plugins import Registry

DATA_VARIABLE = "CHARPY_DATA"


def data_of(reference: str, data_dir: Path | None, plugins: Registry) -> dict[str, Any]:
    """`{kind, params}` of the dataset that takes `reference`: the one of that name first, then whoever accepts it.

    Raises:
        UnknownNameError: no dataset takes it.
    """
    folder = str(data_dir) if data_dir is not None else os.environ.get(DATA_VARIABLE)
    entries = plugins.entries("datasets")
    named = [entry for entry in entries if entry.kind == reference]
    if named:
        entry = plugins.find("datasets", reference)
        return {"kind": reference, "params": entry.load().accepts(reference, folder) or {}}
    for entry, component in plugins.usable("datasets"):
        params = component.accepts(reference, folder)
        if params is not None:
            return {"kind": entry.kind, "params": params}
    raise unknown_name(
        "data set",
        reference,
        [entry.kind for entry in entries],
        hint="give a name that `charpy plugins` lists, an .npz file, or a folder with one subfolder a class",
    )


def levels_of(text: str | None) -> list[int] | dict[str, list[int]] | None:
    """`1,3,5,10` as numbers, `l0=1,3,l2=64,128` as numbers by norm."""
    if text is None:
        return None
    parts = _parts(text, "--levels")
    if not any("=" in part for part in parts):
        return [_whole(part, "--levels", text) for part in parts]
    by_norm: dict[str, list[int]] = {}
    norm = ""
    for part in parts:
        name, named, number = part.rpartition("=")
        if named:
            norm = name.strip().lower()
            if norm in by_norm:
                raise SpecError(
                    f"{norm!r} is named twice",
                    where="--levels",
                    found=repr(text),
                    hint="give all its levels at one place",
                )
        if not norm:
            expected = "a norm before the first level, such as l0=1,3,l2=64,128, or no norm at all"
            raise SpecError(
                "a level of no norm", where="--levels", found=repr(text), expected=expected, hint="put a norm before it"
            )
        by_norm.setdefault(norm, []).append(_whole(number.strip(), "--levels", text))
    return by_norm


def norms_of(text: str) -> list[str]:
    """`l0,linf` as a list; which norms there are is the spec's business."""
    return [part.lower() for part in _parts(text, "--norms")]


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise SpecError(
            "an empty entry",
            where=option,
            found=repr(text),
            expected="a list with commas, such as 1,3,5",
            hint="remove the comma that is too much",
        )
    return parts


def _whole(part: str, option: str, text: str) -> int:
    if not (part.isascii() and part.isdecimal()):
        raise SpecError(
            f"{part!r} is no whole number",
            where=option,
            found=repr(text),
            expected="for example 1,3,5,10",
            hint="levels are whole numbers th: 8/255 under linf is th 8",
        )
    return int(part)
