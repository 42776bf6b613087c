"""What of an image is drawn and what is empty background, as far as the image alone tells."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param


class ForegroundParams(BaseParams):
    """What counts as drawn."""

    background: float = param(
        0.0, ge=0, le=1, description="value of the empty background", unit="image values", source="ours"
    )
    stroke: float = param(
        0.5,
        gt=0,
        le=1,
        description="least difference from the background that is a stroke",
        unit="image values",
        source="ours",
    )
    support: int = param(
        1,
        ge=0,
        le=8,
        description="neighbours of a stroke pixel, of eight, that must differ as much",
        unit="pixels",
        source="ours",
    )
    reach: int = param(
        1, ge=0, description="how far around a stroke soft edges are drawn", unit="pixels", source="ours"
    )


class Box(NamedTuple):
    """Bounds of every value, both of the shape of the images."""

    low: torch.Tensor
    high: torch.Tensor


def foreground(images: torch.Tensor, params: ForegroundParams) -> torch.Tensor:
    """bool `(N, 1, H, W)`: the pixels of `images` `(N, C, H, W)` that are drawn.

    A stroke pixel differs from the background by `stroke` or more in some channel, as do `support` of its eight
    neighbours: a lone bright pixel is no stroke. The foreground is every pixel within `reach` of a stroke pixel, in
    rows and in columns.
    """
    bright = (ink(images, params) >= params.stroke).to(torch.float32)
    neighbours = 9 * avg_pool2d(bright, 3, 1, 1) - bright
    stroke = bright * (neighbours > params.support - 0.5)
    return max_pool2d(stroke, 2 * params.reach + 1, 1, params.reach) > 0


def ink(images: torch.Tensor, params: ForegroundParams) -> torch.Tensor:
    """`(N, 1, H, W)`: the largest difference of any channel from the background."""
    return (images - params.background).abs().amax(1, keepdim=True)


def unseen_box(images: torch.Tensor, radius: float, params: ForegroundParams) -> Box:
    """The values within `radius` of `images` and in [0, 1] that change nothing outside the foreground.

    A value that differs from the background by `stroke` keeps to that, on the 8-bit grid too, so no stroke is lost: the
    foreground of every image in the box holds that of its original, and no pixel outside it is another one.
    """
    drawn = foreground(images, params)
    low = torch.where(drawn, images - radius, images).clamp_min(0)
    high = torch.where(drawn, images + radius, images).clamp_max(1)
    above = math.ceil((params.background + params.stroke) * 255 - 1e-6) / 255
    below = math.floor((params.background - params.stroke) * 255 + 1e-6) / 255
    low = torch.where(images >= above, low.clamp_min(above), low)
    high = torch.where(images <= below, high.clamp_max(below), high)
    return Box(torch.minimum(low, images), torch.maximum(high, images))
