"""What a network is trained and tested on: whole splits in memory, as bytes where they fit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from charpy.cli.references import data_of
from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.pixels import quantise
from charpy.plugins import registry
from charpy.threat import Grid
from charpy_models.card import SplitCard
from charpy_models.training import Images

CHUNK = 1000
"""Images read at once; they are kept as bytes, a quarter of what they take as float32."""


class Split(NamedTuple):
    """One split in memory.

    `images` `(N, C, H, W)` are uint8, or float32 in [0, 1] off the 8-bit grid; `labels` are int64 `(N,)`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    shape: tuple[int, int, int]
    num_classes: int
    card: SplitCard
    class_names: tuple[str, ...]


def read_split(kind: str, split: str, data_dir: str | None) -> Split:
    """The whole `train` or `test` split of the dataset `kind`; for errors see `open_split`."""
    return _read(open_split(kind, split, data_dir), {"split": split})


def open_split(kind: str, split: str, data_dir: str | None) -> Dataset:
    """The same, not read yet.

    Raises:
        DataError: the dataset is not in `data_dir`.
        UnknownNameError: there is no such dataset.
    """
    found = registry().load("datasets", kind).accepts(kind, data_dir)
    if found is None:
        raise DataError(
            f"dataset {kind!r} is not there", where=data_dir or "", hint="give --data-dir, or set CHARPY_DATA"
        )
    dataset: Dataset = registry().create("datasets", kind, {**found, "split": split})
    return dataset


def read_reference(reference: str, data_dir: str | None) -> Split:
    """All of the data that `reference` names: an .npz file, or a folder with one subfolder a class."""
    dataset = open_reference(reference, data_dir)
    return _read(dataset, {"name": dataset.name})


def open_reference(reference: str, data_dir: str | None) -> Dataset:
    """The same, not read yet."""
    found = data_of(reference, None if data_dir is None else Path(data_dir), registry())
    dataset: Dataset = registry().create("datasets", found["kind"], found["params"])
    return dataset


def check_test(test: Dataset, train: Split) -> None:
    """Refuse a `test` that a network trained on `train` cannot be measured on; a class may be missing at its end.

    Raises:
        SpecError: images of another shape, or a label that stands for another class.
    """
    if tuple(test.shape) != tuple(train.shape):
        raise SpecError(
            "the test images have another shape than the training images",
            where="data.test",
            found=tuple(test.shape),
            expected=tuple(train.shape),
        )
    names = tuple(test.class_names)
    if names != train.class_names[: len(names)]:
        raise SpecError(
            "the test data has other classes than the training data, so that a label means something else in it",
            where="data.test",
            found=f"{len(names)} classes: {', '.join(names)[:200]}",
            expected=f"{train.num_classes} classes: {', '.join(train.class_names)[:200]}",
            hint="give both the same classes: with folders, one of each name in both",
        )


def hold_out(data: Split, share: float, seed: int) -> tuple[Images, Images | None]:
    """`data` without, and with nothing but, a random `share` of its rows; the draw is `seed`'s alone.

    Raises:
        SpecError: the share leaves no image on one of the two sides.
    """
    if not share:
        return Images(data.images, data.labels), None
    count = round(share * len(data.labels))
    if not 0 < count < len(data.labels):
        raise SpecError(
            "the held-out share leaves one side without images",
            where="validation",
            found=f"{share} of {len(data.labels)} images",
            hint="give a larger share, or 0 to keep the last epoch's weights",
        )
    rows = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(seed))
    held, kept = rows[:count].sort().values, rows[count:].sort().values
    return Images(data.images[kept], data.labels[kept]), Images(data.images[held], data.labels[held])


def _read(dataset: Dataset, params: dict[str, str]) -> Split:
    images, labels = [], []
    for start in range(0, len(dataset), CHUNK):
        samples = dataset.read(range(start, min(start + CHUNK, len(dataset))))
        images.append(quantise(samples.images) if dataset.grid is Grid.EIGHT_BIT else samples.images)
        labels.append(samples.labels)
    card = SplitCard(params=params, samples=len(dataset), fingerprint=dataset.fingerprint())
    return Split(
        torch.cat(images), torch.cat(labels), dataset.shape, len(dataset.class_names), card, tuple(dataset.class_names)
    )
