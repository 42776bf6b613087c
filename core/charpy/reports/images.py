"""Images as PNG data URIs; of the gallery: original, witness, difference, what is seen magnified, what changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.gallery import GalleryItem
from charpy.threat import Norm

Pixels = NDArray[np.uint8]
Scaled = NDArray[np.float64]
"""`(C, H, W)` on the 0..255 scale."""

CUT = 96
"""Of an image with a longer side, a square of this side is magnified in the gallery: the whole would have to be shrunk
to fit, which takes away what magnification shows, and is most of the page's bytes and time."""

MIDDLE = 128
"""The grey that stands for no difference."""

SHOWN = 2.0
"""Black and white of a magnified image are this many local standard deviations below and above grey. Of the values of
benign images 1 % (CIFAR-10) to 6 % (MNIST) lie outside."""


@dataclass(frozen=True)
class Picture:
    """A gallery item ready for the page.

    Attributes:
        original, witness, difference: data URIs of PNG images.
        factor: what the difference was multiplied by, as text.
        magnified: the same of original and witness under adversarial magnification.
        side: of the square that is magnified, in pixels; 0 where it is the whole image.
        marks: under L0, `(x, y, side)` of a square around each changed pixel, in pixels; empty otherwise.
    """

    item: GalleryItem
    original: str
    witness: str
    difference: str
    factor: str
    magnified: tuple[str, str]
    side: int
    width: int
    height: int
    marks: tuple[tuple[float, float, float], ...]


def pictures(items: Sequence[GalleryItem]) -> list[Picture]:
    """Encode gallery items, which are of one shape; what is magnified is magnified in one batch."""
    if not items:
        return []
    pairs = [(scale255(item.original), scale255(item.witness)) for item in items]
    cuts = [_most_changed(witness - original) for original, witness in pairs]
    seen = magnified_images([image[cut] for pair, cut in zip(pairs, cuts, strict=True) for image in pair])
    toned = [data_uri(tone(image)) for image in seen]
    magnified = zip(toned[::2], toned[1::2], strict=True)
    return [_picture(item, pair, two) for item, pair, two in zip(items, pairs, magnified, strict=True)]


def _picture(item: GalleryItem, pair: tuple[Scaled, Scaled], magnified: tuple[str, str]) -> Picture:
    original, witness = pair
    gap = witness - original
    largest = float(np.abs(gap).max(initial=0.0))
    factor = 1.0 if largest == 0 else float(max(np.floor(127 / largest), 0.5))
    height, width = original.shape[1:]
    return Picture(
        item=item,
        original=data_uri(as_bytes(original)),
        witness=data_uri(as_bytes(witness)),
        difference=data_uri(as_bytes(MIDDLE + factor * gap)),
        factor="½" if factor == 0.5 else f"{factor:.0f}",
        magnified=magnified,
        side=CUT if max(height, width) > CUT else 0,
        width=width,
        height=height,
        marks=_marks(gap) if item.norm == Norm.L0 else (),
    )


def _most_changed(gap: Scaled) -> tuple[slice, slice, slice]:
    """The place of the `CUT` x `CUT` pixels with the largest sum of squared changes; everything of a smaller image.

    Of several such places it is the middle one.
    """
    energy = np.pad(np.square(gap).sum(axis=0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(CUT, side) for side in gap.shape[1:])
    inside = energy[height:, width:] - energy[:-height, width:] - energy[height:, :-width] + energy[:-height, :-width]
    best = np.argwhere(inside >= inside.max() * (1 - 1e-9))
    top, left = best[np.abs(best - best.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return slice(None), slice(top, top + height), slice(left, left + width)


def data_uri(pixels: Pixels) -> str:
    """A PNG of `pixels` `(C, H, W)` as a data URI; see `colours`."""
    from PIL import Image

    pixels = colours(pixels)
    image = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def colours(pixels: Pixels) -> Pixels:
    """Grey `(1, H, W)` or colour `(3, H, W)` as it is; the mean of any other number of channels."""
    return pixels if pixels.shape[0] in (1, 3) else as_bytes(pixels.mean(axis=0, keepdims=True))


def magnified_images(images: Sequence[Scaled]) -> NDArray[np.float32]:
    """`(N, C, H, W)`, in local standard deviations, of images of one shape."""
    import torch

    from charpy.magnification import magnified

    batch = torch.from_numpy((np.stack(images) / 255).astype(np.float32))
    with torch.no_grad():
        found: NDArray[np.float32] = magnified(batch).numpy()
    return found


def tone(magnified: NDArray[np.float32]) -> Pixels:
    """A magnified image as bytes: grey is the local mean."""
    return as_bytes(MIDDLE + magnified * (127 / SHOWN))


def scaled(gap: Scaled) -> Pixels:
    """A perturbation `(C, H, W)` as bytes, each channel from its least to its largest value; grey where it has one."""
    low, high = gap.min((1, 2), keepdims=True), gap.max((1, 2), keepdims=True)
    width = np.where(high > low, high - low, 1.0)
    return as_bytes(np.where(high > low, (gap - low) / width * 255, MIDDLE))


def _marks(gap: Scaled) -> tuple[tuple[float, float, float], ...]:
    """A square around every changed pixel, never so small against the image that it could not be seen."""
    changed = (gap != 0).any(axis=0)
    side = max(1.0, max(changed.shape) / 11)
    rows, columns = np.nonzero(changed)
    return tuple(
        (float(x) + 0.5 - side / 2, float(y) + 0.5 - side / 2, side) for y, x in zip(rows, columns, strict=True)
    )


def scale255(image: NDArray[Any]) -> Scaled:
    """A stored image, uint8 or in [0, 1], on the 0..255 scale."""
    values: Scaled = image.astype(np.float64)
    return values if image.dtype == np.uint8 else values * 255


def as_bytes(values: NDArray[Any]) -> Pixels:
    """The nearest bytes."""
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
