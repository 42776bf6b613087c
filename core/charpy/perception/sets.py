"""Originals of a study: samples of a dataset, or two image sets of the same file names."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.perception.groups import Images, Originals, PairGroup, stored
from charpy.plugins import Registry
from charpy.specs import DataSpec
from charpy.subjects import chosen_samples, open_dataset
from charpy.threat import Grid

NAMED = 3
"""Files that an error message names."""

CHANGED = "changed"
"""The name of the group of pairs of two image sets."""


def originals_of_data(kind: str, params: dict[str, Any], samples: int | None, registry: Registry) -> Originals:
    """`samples` images of a dataset, drawn as a run draws them; all of them for None."""
    spec = DataSpec(kind=kind, params=params, samples=samples)
    dataset = open_dataset(spec, registry)
    return Originals.of(dataset.name, dataset.read(chosen_samples(dataset, spec)), dataset.class_names, dataset.grid)


def read_sets(originals: Path, changed: Path, registry: Registry) -> tuple[Originals, PairGroup]:
    """The pairs of the pictures that have the same name in both folders, with or without subfolders of classes.

    Raises:
        DataError: a picture is in one folder only, or the pictures of the two folders are not of one shape.
        SpecError: no folder is there.
    """
    with tempfile.TemporaryDirectory(prefix="charpy-") as scratch:
        one, flat = _open(originals, Path(scratch) / "originals", "--originals", registry)
        other, other_flat = _open(changed, Path(scratch) / "changed", "--changed", registry)
        first, second = (_read(dataset, is_flat) for dataset, is_flat in ((one, flat), (other, other_flat)))
    _check_names(first.ids, second.ids, originals, changed)
    if first.shape != second.shape:
        found, expected = (f"{' x '.join(map(str, part.shape))} (C x H x W)" for part in (second, first))
        raise DataError("the two image sets differ in shape", where=str(changed), found=found, expected=expected)
    order = {name: place for place, name in enumerate(second.ids)}
    images = second.images[[order[name] for name in first.ids]]

    def read(rows: torch.Tensor) -> Images:
        return first.images[rows], stored(images[rows], Grid.EIGHT_BIT)

    name = Originals(f"{originals.name} and {changed.name}", *first[1:])
    return name, PairGroup(CHANGED, f"the picture of the same name in {changed.name}", first.ids, first.ids, read)


def _open(folder: Path, link: Path, option: str, registry: Registry) -> tuple[Dataset, bool]:
    """The folder as a dataset; one without subfolders is shown to it as the only class of another."""
    if not folder.is_dir():
        raise SpecError("no folder is here", where=option, found=str(folder), expected="a folder of pictures")
    flat = not any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    if flat:
        link.mkdir()
        (link / "-").symlink_to(folder.resolve(), target_is_directory=True)
    dataset: Dataset = registry.create("datasets", "folder", {"path": str(link if flat else folder)})
    return dataset, flat


def _read(dataset: Dataset, flat: bool) -> Originals:
    samples = dataset.read(range(len(dataset)))
    ids = tuple(name.removeprefix("-/") for name in samples.ids) if flat else samples.ids
    return Originals.of("", samples._replace(ids=ids), () if flat else dataset.class_names, dataset.grid)


def _check_names(first: Sequence[str], second: Sequence[str], originals: Path, changed: Path) -> None:
    for names, others, folder, other in ((first, second, originals, changed), (second, first, changed, originals)):
        alone = sorted(set(names) - set(others))
        if alone:
            raise DataError(
                "a picture has no partner",
                where=str(other),
                found=f"no {', '.join(alone[:NAMED])}" + (f" and {len(alone) - NAMED} more" * (len(alone) > NAMED)),
                expected=f"every file of {folder}, by the same name",
                hint="the changed image of a picture has its name: a/cat.png and b/cat.png",
            )
