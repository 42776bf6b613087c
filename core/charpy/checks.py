"""What images, labels and threats must satisfy before a run: the same refusals for our datasets and a stranger's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from charpy.errors import DataError, SpecError
from charpy.pixels import on_grid
from charpy.texts import check_texts
from charpy.threat import COUNTED, DUAL, FIRST_LEVEL, LAST_LEVEL, Grid, Norm

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.dataset import Samples

Shape = tuple[int, int, int]

ROUNDING = 1e-4
"""An excess over [0, 1] up to this is called a rounding error in the hint; it is refused all the same."""

DIGEST_BYTES = 16
"""Size of the digest that stands for one image in `Duplicates`: a chance collision needs about 2**64 images."""


def check_samples(samples: Samples, *, shape: Shape, num_classes: int | None, grid: Grid, where: str) -> None:
    """Refuse a piece of a dataset that an evaluation must not run on.

    Args:
        samples: the piece, as `Dataset.read` returned it.
        shape: `(C, H, W)` that every image must have.
        num_classes: K of the model, so that labels lie in 0..K-1; None where K is not known yet.
        grid: `8bit` when the run only knows images on k/255.
        where: the dataset's name, for the message.

    Raises:
        DataError: no sample, lengths that differ, another shape or type, NaN or infinity, values outside [0, 1],
            values off the grid, or labels that are no class of the model.
    """
    import torch

    images, labels, ids = samples
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, torch.Tensor):
            raise DataError(
                f"{name} are no torch tensor",
                where=where,
                found=type(value).__name__,
                hint="return Samples(images, labels, ids) with torch tensors",
            )
    check_lengths(len(images) if images.ndim else 0, tuple(labels.shape), ids, where=where)
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise DataError(
            "images have the wrong shape",
            where=where,
            found=tuple(images.shape),
            expected=f"(N, *{tuple(shape)})",
            hint="give images of one size, the one that `shape` names",
        )
    if images.dtype != torch.float32:
        raise DataError(
            "images have the wrong type",
            where=where,
            found=images.dtype,
            expected="float32 in [0, 1]",
            hint="convert them to float32 and divide by their largest possible value",
        )
    check_values(images, where=where, name=ids.__getitem__)
    check_labels(labels, num_classes, where=where)
    if grid is Grid.EIGHT_BIT and not on_grid(images):
        raise DataError(
            "images do not lie on the 8-bit grid",
            where=where,
            found=f"{_off_grid(images)} of {images.numel()} values are no multiple of 1/255",
            expected="multiples of 1/255, so that an image survives a PNG",
            hint="write `grid: none` in the spec to work with real values, or round the images to k/255",
        )


def check_lengths(images: int, labels: tuple[int, ...], ids: tuple[str, ...], *, where: str) -> None:
    """Refuse an empty set, unequal counts, one-hot labels and ids that are no text or name two samples.

    `labels` is their shape.
    """
    if images == 0:
        raise DataError(
            "no samples",
            where=where,
            found="an empty set",
            expected="at least one image",
            hint="give at least one image",
        )
    if len(labels) != 1:
        columns = len(labels) == 2 and labels[1] > 1
        raise DataError(
            "labels are no list of class numbers",
            where=where,
            found=f"shape {labels}",
            expected=f"({images},)",
            hint="one-hot labels: pass labels.argmax(1)" if columns else "pass one whole number per image",
        )
    if not images == labels[0] == len(ids):
        found = f"{images} images, {labels[0]} labels, {len(ids)} ids"
        raise DataError(
            "images, labels and ids differ in number",
            where=where,
            found=found,
            expected="equal numbers",
            hint="give one label and one id for each image",
        )
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(
            "an id names two samples",
            where=where,
            found=twice,
            expected="one id per sample",
            hint="give each sample an id of its own",
        )
    check_texts(ids, where=where, error=DataError)


def check_values(images: torch.Tensor, *, where: str, name: Callable[[int], str]) -> None:
    """Refuse NaN, infinity and values outside [0, 1] in float images `(N, C, H, W)`; `name(row)` is a sample's id."""
    finite = images.isfinite()
    if not bool(finite.all()):
        row = int((~finite).flatten(1).any(1).nonzero()[0, 0])
        raise DataError(
            "images are not finite",
            where=where,
            found=f"{int(images.isnan().sum())} NaN and {int(images.isinf().sum())} infinite values, "
            f"the first in sample {name(row)}",
            expected="finite values in [0, 1]",
            hint="leave the sample out, or repair what made its values",
        )
    low, high = (float(value) for value in images.aminmax())
    if low >= 0 and high <= 1:
        return
    row = int(((images < 0) | (images > 1)).flatten(1).any(1).nonzero()[0, 0])
    raise DataError(
        "images lie outside the declared range",
        where=where,
        found=f"values from {low:.9g} to {high:.9g}, the first outside in sample {name(row)}",
        expected="[0, 1]",
        hint=_range_hint(low, high),
    )


def check_labels(labels: torch.Tensor, num_classes: int | None, *, where: str) -> None:
    """Refuse labels `(N,)` that are not int64 class numbers in 0..K-1."""
    import torch

    if labels.dtype != torch.int64:
        raise DataError(
            "labels have the wrong type",
            where=where,
            found=labels.dtype,
            expected="int64 class numbers",
            hint="convert them yourself where that is meant: labels.to(torch.int64)",
        )
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or (num_classes is not None and high >= num_classes):
        bad = low if low < 0 else high
        raise DataError(
            f"label {bad} is no class",
            where=where,
            found=f"labels from {low} to {high}",
            expected=f"0..{num_classes - 1}, the {num_classes} classes" if num_classes is not None else "0 or more",
            hint="count classes from 0"
            if low >= 0 and high == num_classes
            else "leave out or relabel what has no class",
        )


def check_threat(norm: Norm, radius: float, shape: Shape, *, where: str = "") -> None:
    """Refuse a radius that no image of `shape` `(C, H, W)` can use.

    `radius` is in the unit of `ThreatModel.radius`: pixels for L0 (there it equals th), image values in [0, 1]
    otherwise (th/255).

    Raises:
        SpecError: the radius is no number, is negative, is not whole (L0), or exceeds the diameter of the image box.
    """
    channels, height, width = shape
    largest = {
        Norm.L0: float(height * width),
        Norm.L1: float(channels * height * width),
        Norm.L2: math.sqrt(channels * height * width),
        Norm.LINF: 1.0,
        Norm.UNRESTRICTED: 1.0,
    }[norm]
    unit = {Norm.L0: "pixels", Norm.UNRESTRICTED: "changes"}.get(norm, "image values")
    if not 0 <= radius <= largest:  # also false for NaN
        raise SpecError(
            f"the {norm} radius is outside the image",
            where=where,
            found=f"{radius:g} {unit}",
            expected=f"0..{largest:g} {unit} for images of {channels} x {height} x {width}",
            hint=f"the largest level of {norm} here is {largest_level(norm, shape)}",
        )
    if norm in COUNTED and radius != int(radius):
        raise SpecError(
            f"{norm} counts whole {unit}",
            where=where,
            found=f"{radius:g}",
            expected="a whole number",
            hint="give a whole number of them",
        )


def largest_level(norm: Norm, shape: Shape) -> int:
    """The largest robustness level th that makes sense for images of `shape` `(C, H, W)`.

    At most 127 for L0 and Linf (an 8 x 8 image has 64 pixels); for L1 and L2 the diameter of the image box in whole
    1/255 steps, 255 * C * H * W and 255 * sqrt(C * H * W); 1 without a ball.
    """
    if norm is Norm.UNRESTRICTED:
        return FIRST_LEVEL
    channels, height, width = shape
    if norm in DUAL:
        return min(LAST_LEVEL, height * width) if norm is Norm.L0 else LAST_LEVEL
    values = channels * height * width
    return 255 * values if norm is Norm.L1 else math.isqrt(255 * 255 * values)


class Duplicates:
    """Counts the distinct images of a dataset that is read in pieces; keeps 16 bytes an image.

    Two images are the same when every value is equal (-0.0 and 0.0 are). Labels play no part.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.total = 0

    def add(self, images: torch.Tensor) -> None:
        """Count a piece, `(N, C, H, W)`."""
        rows = (images.detach().cpu() + 0).flatten(1).contiguous().numpy()  # + 0 turns -0.0 into 0.0
        self._seen.update(hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest() for row in rows)
        self.total += len(rows)

    @property
    def unique(self) -> int:
        """How many of the images so far are no copy of an earlier one."""
        return len(self._seen)

    def warning(self) -> str:
        """What a report must say about copies; '' when there are none."""
        copies = self.total - self.unique
        return f"{copies} of {self.total} images are copies of another one: {self.unique} are unique" if copies else ""


def _off_grid(images: torch.Tensor) -> int:
    from charpy.pixels import GRID_TOLERANCE

    scaled = images * 255
    return int(((scaled - scaled.round()).abs() > GRID_TOLERANCE).sum())


def _range_hint(low: float, high: float) -> str:
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return "this looks like a rounding error: clip the images to [0, 1]"
    if low >= 0 and high <= 255:
        return "divide the images by 255, or pass them as uint8"
    if low >= 0:
        return "divide the images by their largest possible value"
    return "undo the normalisation: images are given in [0, 1], and normalisation lives inside the model"
