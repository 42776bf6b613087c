"""Images drawn from every class of a dataset, and the dataset in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from charpy.checks import check_samples
from charpy.errors import DataError, SpecError
from charpy.pixels import quantise
from charpy.random import Random, sample_keys
from charpy.threat import Grid

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.dataset import Dataset

PER_CLASS = 100
"""Images of each class that are drawn by default, or as many as the smallest class has."""

PIECE_VALUES = 1 << 22
"""Image values that are read at once."""


class Piece(NamedTuple):
    """Some images of a dataset.

    Attributes:
        images: `(N, C, H, W)`, uint8 pixels where the dataset lies on the 8-bit grid, otherwise float32 in [0, 1].
        labels: int64 `(N,)`.
        ids: one for each.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]


class Drawn(NamedTuple):
    """Images of every class, class by class, in the order in which they were drawn.

    Attributes:
        piece: the images.
        classes: the labels that occur, ascending.
        rows: one slice of the images for each class.
    """

    piece: Piece
    classes: tuple[int, ...]
    rows: tuple[slice, ...]


def draw(dataset: Dataset, per_class: int | Literal["all"] | None, seed: int, samples: int | None = None) -> Drawn:
    """Draw images of every class that occurs.

    Which images are drawn depends on the seed and on their ids alone: not on their order, nor on what the classes are
    called. Fewer images of the same seed are the first ones of more.

    Args:
        dataset: at least two of its classes have images.
        per_class: how many of each, `all`, or None for `PER_CLASS` or as many as the smallest class has.
        seed: of the draw.
        samples: instead, the images that a run of so many samples and this seed assesses (`chosen_samples`).

    Raises:
        DataError: fewer than two classes, or a class with fewer images than asked for, or with one image alone.
        SpecError: fewer than two images are asked for.
    """
    import torch

    from charpy.specs import DataSpec
    from charpy.subjects import chosen_samples

    if isinstance(per_class, int) and per_class < 2:
        raise SpecError("within a class, distances need two images", where="per_class", found=per_class, expected="2..")
    rows = None if samples is None else chosen_samples(dataset, DataSpec(kind="any", samples=samples, seed=seed))
    labels, keys = [], []
    for piece in pieces(dataset, rows):
        labels.append(piece.labels.numpy())
        each = torch.arange(len(piece.labels))
        low, high = Random(seed, sample_keys(piece.ids)).fork("distances").words(each, 0, 2).numpy().T.astype(np.int64)
        keys.append(high << 32 | low & 0xFFFFFFFF)
    label, key = np.concatenate(labels), np.concatenate(keys)
    classes, counts = np.unique(label, return_counts=True)
    wanted = _wanted(dataset, classes.tolist(), counts.tolist(), per_class if rows is None else "all")
    chosen: list[int] = []
    slices = []
    for one in classes:
        members = np.flatnonzero(label == one)
        members = members[np.argsort(key[members], kind="stable")][:wanted]
        slices.append(slice(len(chosen), len(chosen) + len(members)))
        chosen += members.tolist()
    parts = list(pieces(dataset, chosen if rows is None else [rows[place] for place in chosen]))
    images, found = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    ids = tuple(name for part in parts for name in part.ids)
    return Drawn(Piece(images, found, ids), tuple(classes.tolist()), tuple(slices))


def pieces(dataset: Dataset, rows: list[int] | None = None) -> Iterator[Piece]:
    """The dataset, or some rows of it, in order and in pieces; each is checked as a run would.

    Raises:
        DataError: what a run refuses (`charpy.checks.check_samples`).
    """
    wanted = list(range(len(dataset))) if rows is None else rows
    step = max(1, PIECE_VALUES // int(np.prod(dataset.shape)))
    for start in range(0, len(wanted), step):
        samples = dataset.read(wanted[start : start + step])
        classes = len(dataset.class_names)
        check_samples(samples, shape=dataset.shape, num_classes=classes, grid=dataset.grid, where=dataset.name)
        images = quantise(samples.images) if dataset.grid is Grid.EIGHT_BIT else samples.images
        yield Piece(images, samples.labels, samples.ids)


def _wanted(
    dataset: Dataset, classes: list[int], counts: list[int], per_class: int | Literal["all"] | None
) -> int | None:
    """How many images are taken of each class; None for all of them."""
    if len(classes) < 2:
        found = f"only class {dataset.class_names[classes[0]]}" if classes else "no image"
        raise DataError(
            "distances between classes need two classes",
            where=dataset.name,
            found=found,
            expected="images of two or more classes",
            hint="give data with more classes; of a folder, one subfolder is a class",
        )
    least = min(counts)
    name = dataset.class_names[classes[counts.index(least)]]
    if least < 2:
        raise DataError(
            "within a class, distances need two images",
            where=dataset.name,
            found=f"one image of class {name}",
            expected="two or more of each class that has any",
            hint="give the class more images, or leave it out of the data; of a run's images draw more",
        )
    if isinstance(per_class, int) and per_class > least:
        raise DataError(
            "more images of a class are asked for than there are",
            where=dataset.name,
            found=per_class,
            expected=f"at most {least}, the images of class {name}",
            hint=f"--per-class {least}, or all",
        )
    if per_class == "all":
        return None
    return min(PER_CLASS, least) if per_class is None else per_class
