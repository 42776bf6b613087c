"""Images and labels in one NumPy `.npz` file; object arrays are never loaded."""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.arrays import ArrayDataset, Layout, likely_layout
from charpy.errors import DataError, UnsafeFileError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy_plugins.datasets.decompress import SMALL, refuse_bomb

IMAGES, LABELS = ("images", "x"), ("labels", "y")

SMALL_LABELS = 64 << 20
"""Labels below this size may unfold by any ratio: sorted ones compress a thousandfold."""

_DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
_STRANGE_HEADER = (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
"""What NumPy's reader of headers, which parses a Python literal, raises for hostile ones."""


class Npz(ArrayDataset):
    """Images and labels of one NumPy `.npz` file.

    Images: `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`; uint8 are read as k/255, float must lie in [0, 1].
    Labels: whole numbers `(N,)`. Ids are `STEM/ROW`, with the file's name without its ending.
    """

    class Params(BaseParams):
        """The file and what is what in it."""

        path: str = param(description="the .npz file", identity=False)
        images: str | None = param(None, description=f"name of the array of images; {' or '.join(IMAGES)} if not given")
        labels: str | None = param(None, description=f"name of the array of labels; {' or '.join(LABELS)} if not given")
        layout: Layout | None = param(
            None, description="nchw or nhwc; not needed where exactly one of axes 1 and 3 has 1 or 3 entries"
        )

    def __init__(self, params: Any) -> None:
        path = Path(os.path.expanduser(params.path))
        with _archive(path) as archive:
            images = _array(archive, path, IMAGES if params.images is None else (params.images,), SMALL)
            labels = _array(archive, path, LABELS if params.labels is None else (params.labels,), SMALL_LABELS)
        layout = params.layout
        if images.ndim == 4 and layout is None:
            layout = likely_layout(images.shape)
            if layout is None:
                raise DataError(
                    "the axis of the channels is ambiguous",
                    where=str(path),
                    found=f"images of shape {images.shape}",
                    expected="exactly one of axes 1 and 3 with 1 or 3 entries",
                    hint="give the parameter `layout`: nchw or nhwc",
                )
        super().__init__(images, labels, name=path.stem, layout=layout, params=params)
        if params.layout is None and images.ndim == 4:
            self.notes = (f"images of shape {images.shape} were read as {layout}", *self.notes)

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """A path that ends in `.npz`."""
        return {"path": reference} if reference.lower().endswith(".npz") else None


def _archive(path: Path) -> zipfile.ZipFile:
    """The open file, if it is a plain NumPy archive."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as cause:  # ValueError: a zero byte
        raise DataError(
            "no .npz file can be read here",
            where=str(path),
            found=cause,
            expected="numpy.savez",
            hint="write it with numpy.savez(path, images=images, labels=labels)",
        ) from None
    for info in archive.infolist():
        strange = info.filename.startswith(("/", "\\")) or ".." in info.filename.replace("\\", "/").split("/")
        if strange or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            archive.close()
            raise UnsafeFileError(
                "archive was not written by NumPy",
                where=str(path),
                found=f"member {info.filename!r}, compression method {info.compress_type}",
                expected="plain names, stored or deflated",
                hint="write it with numpy.savez(path, images=images, labels=labels)",
            )
    return archive


def _array(archive: zipfile.ZipFile, path: Path, names: Sequence[str], small: int) -> NDArray[Any]:
    """The first array among `names`, read only after its size has been checked against the archive and its header."""
    stored = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    name = next((name for name in names if name in stored), None)
    if name is None:
        raise DataError(
            "array is missing",
            where=str(path),
            found=", ".join(stored) or "no array",
            expected=" or ".join(names),
            hint="name the arrays with the parameters `images` and `labels`",
        )
    info, where = stored[name], f"{path}, array {name!r}"
    refuse_bomb(info.file_size, path, small=small, packed=info.compress_size)
    try:
        content = archive.read(info)
        header = io.BytesIO(content)
        version = np.lib.format.read_magic(header)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](header)
    except (*_DAMAGED, *_STRANGE_HEADER) as cause:
        raise _unreadable(where, cause) from None
    if dtype.hasobject:
        raise UnsafeFileError(
            "array holds Python objects, which are pickled and could run code",
            where=where,
            expected="numbers",
            hint="save plain arrays of numbers with numpy.savez",
        )
    size, held = dtype.itemsize * int(np.prod(shape, dtype=object)), len(content) - header.tell()
    if size != held:
        raise DataError(
            "array has the wrong size",
            where=where,
            found=f"{held} bytes",
            expected=f"{size} for {shape}",
            hint="fetch the file again from where it came, or write it again",
        )
    try:
        return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as cause:  # two sizes below zero, an array in each value, values of no bytes
        raise _unreadable(where, cause) from None


def _unreadable(where: str, cause: BaseException) -> DataError:
    return DataError(
        "array cannot be read",
        where=where,
        found=f"{type(cause).__name__}: {cause}",
        hint="fetch the file again from where it came, or write it again",
    )
