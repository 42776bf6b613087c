"""Perceptual Image Diff: at how many pixels a person would see a difference."""

from __future__ import annotations

import math

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.colour import Matrix, as_colour, lab
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.vision import LEVELS, masking, pyramid, sensitivity, threshold

ADOBE_RGB: Matrix = ((0.576700, 0.185556, 0.188212), (0.297361, 0.627355, 0.0752847), (0.0270328, 0.0706879, 0.991248))
"""Adobe RGB (1998) with the white D65, by Lindbloom."""

FAINT = 1e-5
"""Least luminance and least sum of contrasts."""

COLOUR_BLIND = 10.0
"""Luminance in cd/m2 below which no colours are compared."""

PIXELS = 1 << 20
"""Pixels that are compared at a time, at least one image; it bounds the memory, and never changes a result."""


class PerceptualDiff(Metric):
    """Share of the pixels where a person would see a difference: Yee, Pattanaik & Greenberg 2001, Yee 2004.

    A pixel counts where the luminances differ by more than the threshold at the luminance that the eye is adapted to,
    times an elevation of 1 to 10 by frequency and masking; or where the colours, from 10 cd/m2, differ by more than
    the elevation: (a*' - a*)^2 + (b*' - b*)^2. As in the program perceptualdiff 2.1: Adobe RGB with a plain exponent,
    the elevation over six bands of a pyramid of eight levels, adaptation to one level of it. Unlike there the picture
    is mirrored at all four borders without repeating its last pixel, and the arithmetic is float64. Grey images are
    read as red = green = blue. Of any size, but what is seen depends on how large the picture appears: `field_of_view`
    45 degrees is a whole screen. Symmetric; 0 between equals; it counts, so it is not differentiable.
    """

    unit = "1"
    range = (0.0, 1.0)

    class Params(BaseParams):
        """How the picture is looked at."""

        field_of_view: float = param(
            45, ge=0.1, le=89.9, description="angle that the picture's width fills", unit="degrees", source="Yee 2004"
        )
        luminance: float = param(100, gt=0, le=10000, description="of white", unit="cd/m2", source="Yee 2004")
        gamma: float = param(2.2, gt=0, le=10, description="exponent from values to light", source="Yee 2004")
        colour_factor: float = param(
            1, ge=0, le=1, description="weight of the colours; 0: luminance only", source="perceptualdiff"
        )
        octaves: bool = param(
            False,
            description="each level of the pyramid twice as smooth as the one before, as the papers' frequencies "
            "suppose; by default smoothed once more, as the program does",
            source="Burt & Adelson 1983",
        )

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` float32 shares without a gradient; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or of other than one or three channels.
        """
        check_pair(images, perturbed)
        rows = max(1, PIXELS // max(1, images.shape[-2] * images.shape[-1]))
        pairs = zip(*(torch.split(as_colour(part), rows) for part in (images, perturbed)), strict=True)
        share = torch.cat([self._seen(*pair).double().mean((1, 2)) for pair in pairs])
        unknown = (images.isnan() | perturbed.isnan()).flatten(1).any(1)
        return share.masked_fill(unknown, float("nan")).to(torch.float32)

    def _seen(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N, H, W)`: where a difference is seen."""
        params = self.params
        linear = [part.double().clamp(0, 1) ** params.gamma for part in (images, perturbed)]
        colours = [lab(part, ADOBE_RGB) for part in linear]
        luminances = [_luminance(part) * params.luminance for part in linear]
        first, second = (pyramid(part, params.octaves) for part in luminances)

        across = math.degrees(2 * math.tan(math.radians(params.field_of_view / 2)))
        level = min(math.floor(math.log2(across)) + 1, LEVELS - 1) if across >= 1 else 0
        adapted = ((first[level] + second[level]) / 2).clamp(min=FAINT)
        best = sensitivity(3.248, 100)
        raised, contrasts = torch.zeros_like(adapted), torch.zeros_like(adapted)
        for band in range(LEVELS - 2):
            frequency = images.shape[-1] / across / 2 ** (band + 1)
            steps = torch.maximum(*((part[band] - part[band + 1]).abs() for part in (first, second)))
            contrast = steps / torch.maximum(first[band + 2], second[band + 2]).clamp(min=FAINT)
            masked = masking(contrast * sensitivity(frequency, adapted))
            raised += contrast * masked * (best / sensitivity(frequency, 100)).to(contrast)
            contrasts += contrast
        elevation = (raised / contrasts.clamp(min=FAINT)).clamp(1, 10)

        shift = ((colours[1] - colours[0])[:, 1:] ** 2).sum(1) * params.colour_factor
        by_light = (luminances[1] - luminances[0]).abs() > elevation * threshold(adapted)
        by_colour = (shift > elevation) & (adapted >= COLOUR_BLIND)
        return torch.logical_or(by_light, by_colour)


def _luminance(linear: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.einsum("i,nihw->nhw", linear.new_tensor(ADOBE_RGB[1]), linear)
    return found
