"""Images of the gallery as PNG data URIs: original, witness, their difference magnified, and where it changed."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.gallery import GalleryItem
from charpy.threat import Norm

Pixels = NDArray[np.uint8]
MIDDLE = 128
"""The grey that stands for no difference."""


@dataclass(frozen=True)
class Picture:
    """A gallery item ready for the page.

    Attributes:
        original, witness, difference: data URIs of PNG images.
        factor: what the difference was multiplied by, as text.
        marks: under L0, `(x, y, side)` of a square around each changed pixel, in pixels; empty otherwise.
    """

    item: GalleryItem
    original: str
    witness: str
    difference: str
    factor: str
    width: int
    height: int
    marks: tuple[tuple[float, float, float], ...]


def picture(item: GalleryItem) -> Picture:
    """Encode one gallery item."""
    original, witness = _scale255(item.original), _scale255(item.witness)
    gap = witness - original
    largest = float(np.abs(gap).max(initial=0.0))
    factor = 1.0 if largest == 0 else float(max(np.floor(127 / largest), 0.5))
    height, width = original.shape[1:]
    return Picture(
        item=item,
        original=data_uri(_bytes(original)),
        witness=data_uri(_bytes(witness)),
        difference=data_uri(_bytes(MIDDLE + factor * gap)),
        factor="½" if factor == 0.5 else f"{factor:.0f}",
        width=width,
        height=height,
        marks=_marks(gap) if item.norm == Norm.L0 else (),
    )


def data_uri(pixels: Pixels) -> str:
    """A PNG of `pixels` `(C, H, W)` as a data URI; one channel is grey, three are colour, others are averaged."""
    from PIL import Image

    if pixels.shape[0] not in (1, 3):
        pixels = _bytes(pixels.mean(axis=0, keepdims=True))
    image = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _marks(gap: NDArray[np.float64]) -> tuple[tuple[float, float, float], ...]:
    """A square around every changed pixel, never so small against the image that it could not be seen."""
    changed = (gap != 0).any(axis=0)
    side = max(1.0, max(changed.shape) / 11)
    rows, columns = np.nonzero(changed)
    return tuple(
        (float(x) + 0.5 - side / 2, float(y) + 0.5 - side / 2, side) for y, x in zip(rows, columns, strict=True)
    )


def _scale255(image: NDArray[Any]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = image.astype(np.float64)
    return scaled if image.dtype == np.uint8 else scaled * 255


def _bytes(values: NDArray[Any]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
