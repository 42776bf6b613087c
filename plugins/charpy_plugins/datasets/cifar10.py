"""CIFAR-10 in its binary version: colour images of 32 x 32 pixels. Nothing is ever unpickled."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from charpy.arrays import ArrayDataset
from charpy.errors import DataError, UnsafeFileError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy_plugins.datasets.decompress import opened, read_exactly
from charpy_plugins.datasets.locate import Shelf, Source

ROWS, ROW_BYTES = 10_000, 1 + 3 * 32 * 32
"""A batch file holds 10,000 rows of one label byte and the red, green and blue planes, row by row."""

ARCHIVE = "cifar-10-binary.tar.gz"
SOURCE = Source(
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)
MOST_ARCHIVE_BYTES = 200 << 20
"""The official archive unfolds to 184 MB."""

BATCHES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10(ArrayDataset):
    """CIFAR-10: colour images of 32 x 32 pixels, ten classes, 50,000 train and 10,000 test samples.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary version. Read from
    the batch files (`.bin`, also `.bin.gz` or `.bin.xz`) or from the official `cifar-10-binary.tar.gz`, of which
    nothing is unpacked to the disk. Ids are `cifar10/SPLIT/ROW` in the official order.
    """

    class Params(BaseParams):
        """Which split, and where its files are."""

        split: Literal["train", "test"] = param("test", description="the published split")
        data_dir: str | None = param(None, description="data folder; $CHARPY_DATA if not given", identity=False)
        download: bool = param(
            True, description="download missing files (SHA-256 verified, kept in the user's cache)", identity=False
        )

    def __init__(self, params: Any = None) -> None:
        params = type(self).Params() if params is None else params
        folders = ("cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar-10", ".")
        shelf = Shelf("cifar10", params.data_dir, folders, params.download)
        batches = BATCHES[params.split]
        images = np.empty((len(batches) * ROWS, 3, 32, 32), np.uint8)
        labels = np.empty(len(batches) * ROWS, np.int64)
        for number, rows in read_batches(shelf, batches):
            part = slice(number * ROWS, (number + 1) * ROWS)
            images[part], labels[part] = rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]
        super().__init__(images, labels, name=f"cifar10/{params.split}", class_names=CLASSES, params=params)

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """`cifar10`."""
        if reference != "cifar10":
            return None
        return {"data_dir": data_dir} if data_dir else {}


def read_batches(shelf: Shelf, batches: Sequence[str]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Number and rows `(10000, 3073)` of every batch, from batch files if all are there, otherwise from the archive."""
    found = [shelf.find(_forms(batch)) for batch in batches]
    missing = [batch for batch, path in zip(batches, found, strict=True) if path is None]
    if missing:
        yield from _read_archive(shelf.file([*_forms(missing[0]), ARCHIVE], SOURCE), batches)
        return
    for number, path in enumerate(found):
        if path is not None:
            with opened(path) as stream:
                yield number, _rows(stream, path)


def _read_archive(path: Path, batches: Sequence[str]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    absent = set(batches)
    with opened(path) as stream:
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _Capped(stream, path)), mode="r|") as archive:
                for member in archive:
                    if member.name.startswith("/"):  # the filter would take the slash off
                        raise tarfile.AbsolutePathError(member)
                    tarfile.data_filter(member, ".")  # refuses links, devices and names outside the archive
                    name = PurePosixPath(member.name).name
                    content = archive.extractfile(member) if name in absent and member.isreg() else None
                    if content is not None:
                        absent.remove(name)
                        yield batches.index(name), _rows(cast(BinaryIO, content), path)
                    if not absent:
                        return
        except tarfile.FilterError as cause:
            raise UnsafeFileError(
                "archive reaches outside itself",
                where=str(path),
                found=cause,
                hint="do not unpack it elsewhere either; fetch the official binary version",
            ) from None
        except tarfile.TarError as cause:
            raise DataError(
                "archive cannot be read", where=str(path), found=cause, hint="fetch the official binary version again"
            ) from None
    raise DataError(
        "archive lacks a batch",
        where=str(path),
        expected=", ".join(sorted(absent)),
        hint="fetch the official binary version again",
    )


def _rows(stream: BinaryIO, path: Path) -> NDArray[np.uint8]:
    return read_exactly(stream, ROWS * ROW_BYTES, path).reshape(ROWS, ROW_BYTES)


def _forms(batch: str) -> list[str]:
    return [batch, f"{batch}.gz", f"{batch}.xz"]


class _Capped:
    """A stream that refuses to give more than an honest archive holds."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, MOST_ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise UnsafeFileError(
                "archive looks like a decompression bomb",
                where=str(self._path),
                found=f"more than {MOST_ARCHIVE_BYTES} bytes",
                expected="the official archive, 184 MB unfolded",
                hint="fetch the official binary version again",
            )
        return content
