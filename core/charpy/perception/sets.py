"""Originals of a study: samples of a dataset, or two image sets of the same file names."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.perception.groups import Images, Originals, PairGroup, stored
from charpy.plugins import Registry
from charpy.specs import DataSpec
from charpy.subjects import chosen_samples, open_dataset
from charpy.threat import Grid

SAMPLES = 100
"""Images of a dataset where no number is given, or as many as it has."""

NAMED = 3
"""Files that an error message names."""

ONLY = "-"
"""The only class of pictures without subfolders."""

CHANGED = "changed"
"""The name of the group of pairs of two image sets."""


def originals_of_data(
    kind: str, params: dict[str, Any], samples: int | Literal["all"] | None, registry: Registry
) -> Originals:
    """`samples` images of a dataset, drawn as a run draws them; None: `SAMPLES`, or as many as there are."""
    spec = DataSpec(kind=kind, params=params, samples=samples if isinstance(samples, int) else None)
    dataset = open_dataset(spec, registry)
    if samples is None and len(dataset) > SAMPLES:
        spec = spec.model_copy(update={"samples": SAMPLES})
    return Originals.of(dataset.name, dataset.read(chosen_samples(dataset, spec)), dataset.class_names, dataset.grid)


def read_sets(originals: Path, changed: Path, registry: Registry) -> tuple[Originals, PairGroup]:
    """The pairs of the pictures that have the same name in both folders, with or without subfolders of classes.

    Raises:
        DataError: a picture is in one folder only, or the pictures of the two folders are not of one shape.
        SpecError: no folder is there.
    """
    with tempfile.TemporaryDirectory(prefix="charpy-") as scratch:
        first = _read(originals, Path(scratch) / "originals", "--originals", registry)
        second = _read(changed, Path(scratch) / "changed", "--changed", registry)
    _check_names(first.ids, second.ids, originals, changed)
    if first.shape != second.shape:
        found, expected = (f"{' x '.join(map(str, part.shape))} (C x H x W)" for part in (second, first))
        hint = "bring the pictures of both folders to one size, all in colour or all in grey"
        raise DataError(
            "the two image sets differ in shape", where=str(changed), found=found, expected=expected, hint=hint
        )
    order = {name: place for place, name in enumerate(second.ids)}
    images = second.images[[order[name] for name in first.ids]]

    def read(rows: torch.Tensor) -> Images:
        return first.images[rows], stored(images[rows], Grid.EIGHT_BIT)

    name = Originals(f"{originals.name} and {changed.name}", *first[1:])
    return name, PairGroup(CHANGED, f"the picture of the same name in {changed.name}", first.ids, first.ids, read)


def _read(folder: Path, link: Path, option: str, registry: Registry) -> Originals:
    """The pictures of a folder; one without subfolders is shown to the dataset as the only class of another, `link`."""
    if not folder.is_dir():
        raise SpecError("no folder is here", where=option, found=str(folder), expected="a folder of pictures")
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
        dataset: Dataset = registry.create("datasets", "folder", {"path": str(folder)})
        return Originals.of("", dataset.read(range(len(dataset))), dataset.class_names, dataset.grid)
    link.mkdir()
    (link / ONLY).symlink_to(folder.resolve(), target_is_directory=True)
    try:
        dataset = registry.create("datasets", "folder", {"path": str(link)})
        samples = dataset.read(range(len(dataset)))
    except DataError as error:  # names the user's folder, not the link
        where, found = (
            text.replace(str(link / ONLY), str(folder)).replace(str(link), str(folder))
            if isinstance(text, str)
            else text
            for text in (error.where, error.found)
        )
        raise DataError(error.what, where=str(where), found=found, expected=error.expected, hint=error.hint) from None
    ids = tuple(name.removeprefix(f"{ONLY}/") for name in samples.ids)
    return Originals.of("", samples._replace(ids=ids), (), dataset.grid)


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
