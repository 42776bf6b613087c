"""The colour difference CIEDE2000, pixel by pixel."""

from __future__ import annotations

import math

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.colour import as_colour, lab, linear_srgb
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import common_dtype

GREY = 1e-11
"""Largest chroma that is rounding in float64."""


class Ciede2000(Metric):
    """Mean colour difference of the pixels by CIEDE2000 (Sharma, Wu & Dalal 2005, eq. 2 to 22), sRGB under D65.

    About 1 is the least that is seen between two large patches side by side; 100 lies between black and white. With a
    percentile, that of the pixels instead of their mean (ours): 100 is the largest. Grey images are read as red = green
    = blue. In float64. Symmetric; 0 between equals; the largest that a search of sRGB found is 119.4.
    """

    unit = "delta E 2000"
    range = (0.0, 120.0)

    class Params(BaseParams):
        """What is said of all the pixels."""

        percentile: float | None = param(
            None, gt=0, le=100, description="of the pixels' differences; none: their mean", unit="%", source="ours"
        )

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` differences, differentiable; where two pixels are equal the subgradient is 0; NaN where an image is.

        Raises:
            DataError: not a pair of images, or of other than one or three channels.
        """
        check_pair(images, perturbed)
        before, after = (lab(linear_srgb(as_colour(part).double())) for part in (images, perturbed))
        differences = ciede2000(before, after).flatten(1)
        if self.params.percentile is None:
            found = differences.mean(1)
        else:
            rank = math.ceil(differences.shape[1] * self.params.percentile / 100)
            found = differences.kthvalue(rank, dim=1).values
            found = found.masked_fill(differences.isnan().any(1), float("nan"))
        return found.to(common_dtype(images, perturbed))


def ciede2000(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Differences `(N, ...)` of colours `(N, 3, ...)` in CIELAB (L*, a*, b*), with kL = kC = kH = 1.

    Source: Sharma, Wu & Dalal, The CIEDE2000 Color-Difference Formula, Color Research & Application 30 (1), 2005.
    """
    light, a, b = torch.stack([first, second]).unbind(2)
    widened = a * (1.5 - 0.5 * _saturation(_length(a, b).mean(0)))  # a', eq. 4 and 5
    chroma = _length(widened, b)
    grey = chroma <= GREY
    hue = torch.atan2(b, torch.where(grey, 1.0, widened)).rad2deg() % 360  # eq. 7
    hue = torch.where(grey, 0.0, hue)

    one_is_grey = grey.any(0)
    turn = hue[1] - hue[0]
    apart = turn.abs() > 180  # the other way round is shorter
    turn = torch.where(apart, turn - 360 * turn.sign(), turn)
    product = chroma.prod(0)
    root = torch.where(one_is_grey, 0.0, torch.where(one_is_grey, 1.0, product).sqrt())
    hues = 2 * root * torch.sin(turn.deg2rad() / 2)  # delta H', eq. 11

    total = hue.sum(0)
    middle = torch.where(apart, total + torch.where(total < 360, 360.0, -360.0), total) / 2
    middle = torch.where(one_is_grey, total, middle)  # eq. 14
    mean_chroma = chroma.mean(0)
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    t = 1 + sum(size * torch.cos((times * middle + shift).deg2rad()) for size, times, shift in waves)  # eq. 15
    off_middle = (light.mean(0) - 50) ** 2
    lights = (light[1] - light[0]) / (1 + 0.015 * off_middle / (20 + off_middle).sqrt())
    chromas = (chroma[1] - chroma[0]) / (1 + 0.045 * mean_chroma)
    hues = hues / (1 + 0.015 * mean_chroma * t)
    rotation = torch.sin((60 * torch.exp(-(((middle - 275) / 25) ** 2))).deg2rad()) * 2 * _saturation(mean_chroma)
    square = lights**2 + chromas**2 + hues**2 - rotation * chromas * hues  # eq. 22
    equal = square <= 0
    return torch.where(equal, 0.0, torch.where(equal, 1.0, square).sqrt())


def _saturation(chroma: torch.Tensor) -> torch.Tensor:
    """sqrt(C^7 / (C^7 + 25^7)), with a gradient at 0."""
    return chroma**3.5 / (chroma**7 + 25.0**7).sqrt()


def _length(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """sqrt(a^2 + b^2), with subgradient 0 at 0."""
    square = a**2 + b**2
    none = square == 0
    return torch.where(none, 0.0, torch.where(none, 1.0, square).sqrt())
