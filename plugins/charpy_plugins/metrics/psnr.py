"""The peak signal-to-noise ratio: the mean squared change in decibels."""

from __future__ import annotations

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Direction, Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import common_dtype, torchmetrics_image


class Psnr(Metric):
    """Peak signal-to-noise ratio: 10 log10(data_range^2 / mean (x' - x)^2), over all features of an image.

    By torchmetrics, in float64. Symmetric. Infinite between equals, where it has no gradient; 0 between black and
    white.
    """

    unit = "dB"
    direction = Direction.SIMILARITY

    class Params(BaseParams):
        """The scale of the values."""

        data_range: float = param(
            1, gt=0, le=255, description="largest less smallest possible value of an image", unit="image values"
        )

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` decibels, differentiable between images that differ; NaN where an image holds one."""
        check_pair(images, perturbed)
        ratio: torch.Tensor = torchmetrics_image().peak_signal_noise_ratio(
            perturbed.double(),
            images.double(),
            data_range=float(self.params.data_range),
            reduction="none",
            dim=(1, 2, 3),
        )
        return ratio.to(common_dtype(images, perturbed))
