"""The IDX format of MNIST and its relatives: a reader, and the dataset around a pair of IDX files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from charpy.arrays import ArrayDataset
from charpy.errors import DataError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy_plugins.datasets.decompress import opened, read_exactly, refuse_bomb
from charpy_plugins.datasets.locate import Shelf, Source

Split = Literal["train", "test"]

_UBYTE = 0x08


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The uint8 array with `axes` axes of the IDX file `path`, plain, gzip or xz.

    Header, big-endian: two zero bytes, the type (0x08 = unsigned byte), the number of axes, then the length of each
    (http://yann.lecun.com/exdb/mnist/).

    Raises:
        DataError: no IDX file, another type or number of axes, or a length that is not the header's.
        UnsafeFileError: the header promises far more than the file can hold.
    """
    with opened(path) as stream:
        header = stream.read(4 + 4 * axes)
        if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, _UBYTE, axes)):
            raise DataError(
                "not an IDX file of this kind",
                where=str(path),
                found=f"first bytes {header[:4].hex(' ')}",
                expected=f"00 00 08 {axes:02x} (unsigned bytes, {axes} axes)",
                hint="fetch the file again from where it came, or write it again",
            )
        shape = struct.unpack(f">{axes}I", header[4:])
        size = int(np.prod(shape, dtype=object))
        refuse_bomb(size, path)
        return read_exactly(stream, size, path).reshape(shape)


def sources_at(mirror: str, **checksums: str) -> Mapping[str, Source]:
    """The four gzip files under the address `mirror`, by name without `.gz`; the keywords are their SHA-256."""
    names = {
        "train_images": "train-images-idx3-ubyte",
        "train_labels": "train-labels-idx1-ubyte",
        "test_images": "t10k-images-idx3-ubyte",
        "test_labels": "t10k-labels-idx1-ubyte",
    }
    return {name: Source(f"{mirror}{name}.gz", checksums[key]) for key, name in names.items()}


class IdxDataset(ArrayDataset):
    """A data set of 28 x 28 grey images in a pair of IDX files per split; `mnist` and `fashion-mnist` are two.

    Files are searched in the data folder under their published names, with and without `.gz`, with `-` or `.` before
    `idx`. Ids are `NAME/SPLIT/ROW`.
    """

    class Params(BaseParams):
        """Which split, and where its files are."""

        split: Split = param("test", description="the published split")
        data_dir: str | None = param(None, description="data folder; $CHARPY_DATA if not given", identity=False)
        download: bool = param(
            True, description="download missing files (SHA-256 verified, kept in the user's cache)", identity=False
        )

    title: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    subfolders: ClassVar[tuple[str, ...]]
    sources: ClassVar[Mapping[str, Source]]

    def __init__(self, params: Any = None) -> None:
        params = type(self).Params() if params is None else params
        prefix = {"train": "train", "test": "t10k"}[params.split]
        shelf = Shelf(self.title, params.data_dir, self.subfolders, params.download)
        images_path = self._file(shelf, f"{prefix}-images-idx3-ubyte")
        labels_path = self._file(shelf, f"{prefix}-labels-idx1-ubyte")
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if images.shape[1:] != (28, 28):
            raise DataError(
                "images have the wrong shape",
                where=str(images_path),
                found=images.shape,
                expected="(N, 28, 28)",
                hint="other sizes are read from an .npz file or a folder of pictures",
            )
        super().__init__(
            images[:, None],
            labels,
            name=f"{self.title}/{params.split}",
            class_names=self.names,
            params=params,
        )

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """The data set's name."""
        if reference != cls.title:
            return None
        return {"data_dir": data_dir} if data_dir else {}

    def _file(self, shelf: Shelf, stem: str) -> Path:
        dotted = stem.replace("-idx", ".idx")
        return shelf.file([stem + ".gz", stem, dotted + ".gz", dotted], self.sources[stem])
