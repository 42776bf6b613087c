"""Images in memory: how arrays are taken over, what is refused and noted, and the dataset around them."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from charpy.checks import Shape, check_labels, check_lengths, check_values
from charpy.errors import DataError
from charpy.interfaces.dataset import Dataset, Samples
from charpy.pixels import as_images, on_grid, quantise
from charpy.threat import Grid

if TYPE_CHECKING:
    import torch

Layout = Literal["nchw", "nhwc"]
Array = NDArray[Any]

CHANNELS = (1, 3)
"""Sizes of an axis that is taken for the channels when no layout is given."""

MOST_CLASSES = 1_000_000
"""A larger label is taken for something else than a class number."""

PIECE_VALUES = 1 << 24
"""Values that are checked at once: float images are never copied as a whole."""


class ArrayDataset(Dataset):
    """Images and labels in memory.

    uint8 images are kept as they are and read as k/255. Float images must lie in [0, 1]; where all of them lie on
    k/255 they are kept as uint8 too and `grid` is `8bit`, otherwise as float32 and `grid` is `none`. Arrays that
    need no conversion are not copied: leave them alone while a run lasts.

    Args:
        images: numpy array, torch tensor or nested lists, `(N, C, H, W)`; `(N, H, W)` is read as one channel;
            `(N, H, W, C)` with `layout="nhwc"`.
        labels: whole numbers `(N,)` from 0.
        name: for the report; also the first part of the ids.
        class_names: one per class; "0", "1", ... when not given.
        ids: one per sample; `name/00000`, ... when not given.
        layout: which axis holds the channels; without it, axis 1, and images that look like NHWC are refused.
        params: the parameters of a subclass that is a registered component.

    Raises:
        DataError: anything that `charpy.checks` refuses, with what was found.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        name: str = "arrays",
        class_names: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        layout: Layout | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(params)
        self.name = name
        pixels = to_numpy(images, "images", where=name)
        notes: list[str] = []
        if pixels.ndim == 3:
            notes.append("images of shape (N, H, W) were read as one channel")
        pixels = as_nchw(pixels, layout, where=name)
        numbers = to_numpy(labels, "labels", where=name)
        self._ids = tuple(ids) if ids is not None else tuple(f"{name}/{row:05d}" for row in range(len(pixels)))
        check_lengths(len(pixels), numbers.shape, self._ids, where=name)
        self._labels = _class_numbers(numbers, where=name)
        self.class_names = _names_of_classes(class_names, self._labels, where=name)
        self._pixels, self.grid, conversions = keep(pixels, self._ids, where=name)
        self.shape: Shape = _triple(self._pixels.shape)
        self.notes = (*notes, *conversions)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._labels)

    def read(self, indices: Sequence[int]) -> Samples:
        """The samples at `indices`, in that order; only what is returned is converted to float32."""
        rows = check_rows(indices, len(self), where=self.name)
        images = as_images(_tensor(self._pixels[rows]))
        return Samples(images, _tensor(self._labels[rows]), tuple(self._ids[row] for row in rows))

    def fingerprint(self) -> str:
        """SHA-256 of type and shape, of the bytes of all images in order (uint8 or float32), and of the labels."""
        return fingerprint((self._pixels,), self._labels, self.shape)


def to_numpy(value: Any, what: str, *, where: str) -> Array:
    """`value` as a numpy array of numbers in native byte order; objects, texts and ragged lists are refused."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as cause:
        raise DataError(
            f"{what} are no array",
            where=where,
            found=cause,
            expected="numbers of one shape",
            hint="give one array, or lists that are all of one length",
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{what} are no numbers",
            where=where,
            found=f"dtype {array.dtype}",
            expected="numbers",
            hint="give one array of numbers, not of objects or texts",
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def likely_layout(shape: tuple[int, ...]) -> Layout | None:
    """The layout of images of `shape` `(N, ?, ?, ?)` when exactly one of axes 1 and 3 has 1 or 3 entries."""
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first == last:
        return None
    return "nchw" if first else "nhwc"


def as_nchw(images: Array, layout: Layout | None, *, where: str) -> Array:
    """`images` as `(N, C, H, W)` without a copy.

    Raises:
        DataError: not three or four axes, an axis of length 0, or no `layout` and the images look like NHWC.
    """
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and layout == "nhwc":
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim == 4 and layout is None and likely_layout(images.shape) == "nhwc":
        raise DataError(
            "images look like (N, H, W, C)",
            where=where,
            found=images.shape,
            expected="(N, C, H, W)",
            hint="say layout='nhwc', or layout='nchw' if axis 1 does hold the channels",
        )
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(
            "images have the wrong shape",
            where=where,
            found=images.shape,
            expected="(N, C, H, W)",
            hint="give images (N, C, H, W), (N, H, W), or (N, H, W, C) with layout='nhwc'",
        )
    return images


def keep(images: Array, ids: Sequence[str], *, where: str) -> tuple[Array, Grid, tuple[str, ...]]:
    """`(N, C, H, W)` images as they are stored (uint8 or float32, contiguous), their grid, and notes.

    Raises:
        DataError: another type than uint8 and float, uint8 that only holds 0 and 1, or values outside [0, 1].
    """
    if images.dtype == np.uint8:
        if images.max() == 1:
            raise DataError(
                "uint8 images hold only 0 and 1",
                where=where,
                found="values from 0 to 1",
                expected="values up to 255, which are read as k/255",
                hint="if 1 means white, pass them as float32",
            )
        return np.ascontiguousarray(images), Grid.EIGHT_BIT, ("uint8 images were read as k/255",)
    if images.dtype.kind != "f":
        hint = (
            "images.astype(numpy.uint8) if they lie in 0..255" if images.dtype.kind in "iu" else "give them as float32"
        )
        raise DataError(
            "images have the wrong type",
            where=where,
            found=images.dtype,
            expected="uint8, or float in [0, 1]",
            hint=hint,
        )
    return _keep_float(images, ids, where)


def check_rows(indices: Iterable[int], size: int, *, where: str) -> list[int]:
    """`indices` as plain whole numbers; one outside 0..size-1 is refused."""
    rows = [operator.index(row) for row in indices]
    if bad := [row for row in rows if not 0 <= row < size]:
        raise DataError(
            "there is no such sample", where=where, found=bad[0], expected=f"0..{size - 1}", hint="count samples from 0"
        )
    return rows


def fingerprint(pieces: Iterable[Array], labels: Array, shape: Shape) -> str:
    """SHA-256 of a dataset: `dtype (N, C, H, W)`, then the bytes of all images in order, then int64 labels.

    `pieces` are arrays `(n, C, H, W)`, all uint8 or all float32. The digest does not depend on how the images are cut
    into pieces, nor on the file format that they came from.
    """
    digest = hashlib.sha256()
    for number, piece in enumerate(pieces):
        if number == 0:
            digest.update(f"{piece.dtype.name} {(len(labels), *shape)}\n".encode())
        digest.update(np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def _keep_float(images: Array, ids: Sequence[str], where: str) -> tuple[Array, Grid, tuple[str, ...]]:
    """Check float images piece by piece; uint8 if all lie on the grid, otherwise float32."""
    pixels = np.empty(images.shape, np.uint8)
    gridded = exact = True
    step = max(1, PIECE_VALUES // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        piece = _tensor(np.array(images[part], dtype=np.float64 if images.itemsize > 4 else np.float32))
        check_values(piece, where=where, name=ids[part].__getitem__)
        gridded = gridded and on_grid(piece)
        if gridded:
            stored = quantise(piece)
            exact = exact and bool((as_images(stored) == piece.float()).all())
            pixels[part] = stored.numpy()
    if gridded:
        note = () if exact else ("image values within 1/255000 of k/255 were moved to k/255",)
        return pixels, Grid.EIGHT_BIT, note
    notes = () if images.dtype == np.float32 else (f"{images.dtype} images were read as float32",)
    return np.ascontiguousarray(images, dtype=np.float32), Grid.NONE, notes


def _class_numbers(labels: Array, where: str) -> Array:
    """int64 labels; booleans, fractions and numbers beyond int64 are refused."""
    if labels.dtype.kind not in "iu":
        raise DataError(
            "labels have the wrong type",
            where=where,
            found=f"dtype {labels.dtype}",
            expected="whole class numbers",
            hint="convert them yourself where that is meant: labels.astype(int)",
        )
    if int(labels.max()) >= MOST_CLASSES:
        raise DataError(
            f"label {labels.max()} is no class",
            where=where,
            expected=f"0..{MOST_CLASSES - 1}",
            hint="give class numbers, counted from 0",
        )
    return labels.astype(np.int64)


def _names_of_classes(names: Sequence[str] | None, labels: Array, where: str) -> tuple[str, ...]:
    check_labels(_tensor(labels), None if names is None else len(names), where=where)
    return tuple(names) if names is not None else tuple(str(label) for label in range(int(labels.max()) + 1))


def _triple(shape: tuple[int, ...]) -> Shape:
    return shape[1], shape[2], shape[3]


def _tensor(array: Array) -> torch.Tensor:
    """`array` as a tensor; a read-only array is copied first, as torch has no read-only tensors."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())
