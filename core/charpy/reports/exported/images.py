"""The images of a run as files: PNG where every value lies on the 8-bit grid, NumPy arrays where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from charpy.pixels import as_images, quantise, unpack
from charpy.reports.exported.tables import DISTANCE, LEVEL, Names
from charpy.reports.names import folder_name, folder_names
from charpy.reports.table import Column, Table
from charpy.runfile import RunFile
from charpy.runfile.streams import SampleLine, WitnessLine
from charpy.threat import Grid

CHANNELS = {1: "grey", 3: "colour"}

OFF_GRID = "float32 (C, H, W) in [0, 1]: values off the 8-bit grid, which no PNG can hold"
OTHER = "uint8 (C, H, W): a PNG holds one channel or three"


class Written(NamedTuple):
    """A file, and what is on it."""

    file: str
    of: SampleLine | WitnessLine
    note: str


def manifest(run: RunFile, names: Names, out: Path) -> Table[Written]:
    """`manifest`: a row for each image; going through its rows writes the files under `out`."""

    def witness(row: Written) -> WitnessLine | None:
        return row.of if isinstance(row.of, WitnessLine) else None

    original = "an original"
    return Table(
        "manifest",
        "One row for every image file: `originals/CLASS/SAMPLE.png`, `witnesses/MODEL/NORM/ATTACK/SAMPLE.png`. Of one "
        "sample's witnesses by one attack the later ones have their level in their name.",
        [
            Column("file", lambda row: row.file, "path below this folder"),
            Column("image", lambda row: "original" if witness(row) is None else "witness", "what it is",
                   range="original, witness"),
            Column("sample", lambda row: row.of.sample, "number of the sample in the run", kind="whole"),
            Column("id", lambda row: row.of.id, "of the sample in its dataset"),
            Column("label", lambda row: row.of.label, "true class", "class number", kind="whole"),
            Column("label_name", lambda row: names.of_class(row.of.label), "the same in words"),
            Column("model", lambda row: (one := witness(row)) and names.model(one.model), "that is fooled",
                   missing=original),
            Column("norm", lambda row: (one := witness(row)) and one.norm, "of the threat", missing=original),
            Column("th", lambda row: (one := witness(row)) and one.th, "level that was attacked", LEVEL, "1 or more",
                   original, "whole"),
            Column("attack", lambda row: (one := witness(row)) and one.attack, "name in the report", missing=original),
            Column("unit", lambda row: (one := witness(row)) and one.unit, "number of the unit, as in units",
                   missing=original, kind="whole"),
            Column("distance", lambda row: None if (one := witness(row)) is None else float(one.distance),
                   "from the original, exact", DISTANCE, "0 or more", original, "number"),
            Column("prediction", lambda row: None if (one := witness(row)) is None else one.prediction,
                   "what the model says of it", "class number", "", original, "whole"),
            Column("note", lambda row: row.note or None, "where it is no PNG, why", missing="it is a PNG"),
        ],
        _written(run, names, out),
    )  # fmt: skip


def _written(run: RunFile, names: Names, out: Path) -> Iterator[Written]:
    dataset = run.meta("dataset")
    channels, height, width = dataset["shape"]
    shape, grid = (channels, height, width), Grid(run.spec["grid"])
    classes = [_safe(name) for name in folder_names(names.classes)]
    models = [_safe(name) for name in folder_names(names.models)]
    attacks: dict[str, str] = {}
    for line, data in run.streams().originals():
        folder = Path("originals") / (classes[line.label] if line.label < len(classes) else f"class-{line.label}")
        file, note = _write(out, folder, _file(line), unpack(data, shape, grid))
        yield Written(file, line, note)
    for found, data in run.streams().witness_images():
        if found.attack not in attacks:
            attacks |= zip((*attacks, found.attack), map(_safe, folder_names((*attacks, found.attack))), strict=True)
        folder = Path("witnesses") / models[found.model] / _safe(folder_name(found.norm)) / attacks[found.attack]
        name, number = _file(found), 1
        while any((out / folder / f"{name}{suffix}").exists() for suffix in (".png", ".npy")):
            name = f"{_file(found)}-th{found.th}" + (f"-{number}" if number > 1 else "")
            number += 1
        file, note = _write(out, folder, name, unpack(data, shape, grid))
        yield Written(file, found, note)


def _write(out: Path, folder: Path, name: str, image: torch.Tensor) -> tuple[str, str]:
    """Write one image `(C, H, W)`; its path below `out`, and why it is no PNG ('' where it is one)."""
    from PIL import Image

    (out / folder).mkdir(parents=True, exist_ok=True)
    pixels = quantise(image)
    on_grid = torch.equal(as_images(pixels), as_images(image))
    if not on_grid or len(pixels) not in CHANNELS:
        path = folder / f"{name}.npy"
        values = pixels.numpy() if on_grid else image.to(torch.float32).numpy()
        np.save(out / path, np.ascontiguousarray(values), allow_pickle=False)
        return path.as_posix(), OTHER if on_grid else OFF_GRID
    path = folder / f"{name}.png"
    values = pixels.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(values[:, :, 0] if len(pixels) == 1 else values).save(out / path, format="PNG")
    return path.as_posix(), ""


def _file(line: SampleLine | WitnessLine) -> str:
    """Number and id: no two samples have the same, whatever the ids are."""
    return f"{line.sample:06}_{folder_name(line.id)}"


def _safe(name: str) -> str:
    """Not a name that Windows keeps for devices."""
    stem = name.split(".", 1)[0].upper()
    device = stem in {"CON", "PRN", "AUX", "NUL"} or (len(stem) == 4 and stem[:3] in {"COM", "LPT"})
    return f"{name}-" if device else name
