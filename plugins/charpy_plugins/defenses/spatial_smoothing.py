"""Spatial smoothing (Xu, Evans & Qi 2018, section III-B): a median or Gaussian filter before the model."""

from __future__ import annotations

from typing import Literal

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Transformation, boxed
from charpy_plugins.filters.gaussian import gaussian
from charpy_plugins.filters.median import median


class SpatialSmoothing(Transformation):
    """Replaces each value by the median, or a Gaussian mean, of its neighbourhood; each channel for itself.

    Images are mirrored at their border. Both filters are differentiable almost everywhere: a median passes the gradient
    of the value that it takes.
    """

    gradient = GradientPath.EXACT

    class Params(BaseParams):
        """Which filter, and how wide it is."""

        method: Literal["median", "gaussian"] = param("median", description="kind of the mean")
        window: int = param(
            2,
            ge=1,
            le=9,
            description="median: side of the window",
            unit="pixels",
            source="Xu et al. 2018, section III-B",
        )
        sigma: float = param(
            1.0, gt=0, le=20, description="gaussian: standard deviation of the weights", unit="pixels", source="ours"
        )

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The smoothed images."""
        if self.params.method == "median":
            return median(images, self.params.window, self.params.window)
        return boxed(gaussian(images, self.params.sigma))
