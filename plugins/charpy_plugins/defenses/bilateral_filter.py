"""The bilateral filter (Tomasi & Manduchi 1998) before the model: smooth areas, kept edges."""

from __future__ import annotations

import torch

from charpy.bilateral import bilateral
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Transformation, boxed


class BilateralFilter(Transformation):
    """Replaces each pixel by the mean of near pixels of a similar colour.

    The weights depend on the image, and their gradient is a part of the whole. Images are mirrored at their border.
    """

    gradient = GradientPath.EXACT

    class Params(BaseParams):
        """How near and how similar."""

        window: int = param(5, ge=1, le=31, description="side of the window", unit="pixels", source="ours")
        sigma_space: float = param(
            1.5, gt=0, le=100, description="standard deviation of the weight of distance", unit="pixels", source="ours"
        )
        sigma_colour: float = param(
            0.2,
            gt=0,
            le=100,
            description="standard deviation of the weight of a difference of colours",
            unit="image values",
            source="ours; Tomasi & Manduchi: 50/255 in their examples",
        )

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The smoothed images."""
        return boxed(bilateral(images, self.params.window, self.params.sigma_space, self.params.sigma_colour))
