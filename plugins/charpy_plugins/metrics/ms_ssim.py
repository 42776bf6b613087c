"""Multi-scale structural similarity: the SSIM of an image and of its halves, quarters, ..."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from charpy.errors import DataError
from charpy.interfaces.component import param
from charpy.interfaces.metric import Direction, Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.ssim import Ssim, mean_ssim
from charpy_plugins.metrics.windows import common_dtype, fitting, sigma_of, torchmetrics_image

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class MsSsim(Metric):
    """Multi-scale SSIM of Wang, Simoncelli & Bovik 2003, eq. 7: contrast and structure of every scale.

    And the luminance of the last one. Each scale's SSIM is by torchmetrics, in float64, over the windows that lie
    wholly inside the image; a scale is half the one before, by the mean of 2 x 2 pixels. A negative factor counts as 0.
    The window is the largest odd one, at most `window`, that fits the last scale: 3 at 8 x 8 pixels and 2 scales. Fewer
    scales take the first weights, divided by their sum (both ours). A side below 176 pixels gets a smaller window, or
    fewer scales, than published: state both with the figure. Symmetric; 1 between equals.
    """

    unit = "1"
    direction = Direction.SIMILARITY
    range = (0.0, 1.0)

    class Params(Ssim.Params):
        """Those of the SSIM, and the number of scales."""

        scales: int = param(5, ge=1, le=5, description="how many scales", source="Wang et al. 2003, section 3.2")

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` similarities, differentiable where all factors are positive; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or images too small for so many scales.
        """
        check_pair(images, perturbed)
        scales: int = self.params.scales
        side = min(images.shape[-2:])
        if side < 3 << (scales - 1):
            fit = (side // 3).bit_length()
            raise DataError(
                f"the images are too small for {scales} scales",
                found=f"{images.shape[-2]} x {images.shape[-1]} pixels",
                expected=f"at least {3 << (scales - 1)} pixels a side",
                hint=f"set scales: {fit}" if fit else "use a metric without windows: psnr, l2, linf, ...",
            )
        x, y = images.double(), perturbed.double()
        window = fitting(self.params.window, images[..., : side >> (scales - 1)])
        settings = {"data_range": float(self.params.data_range), "k1": self.params.k1, "k2": self.params.k2}
        value = x.new_ones(len(x))
        for weight in WEIGHTS[: scales - 1]:
            _, contrast = torchmetrics_image().structural_similarity_index_measure(
                y, x, sigma=sigma_of(window), reduction="none", return_contrast_sensitivity=True, **settings
            )
            value = value * _power(contrast, weight / sum(WEIGHTS[:scales]))
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        last = mean_ssim(x, y, window, **settings)
        value = value * _power(last, WEIGHTS[scales - 1] / sum(WEIGHTS[:scales]))
        return value.to(common_dtype(images, perturbed))


def _power(factor: torch.Tensor, weight: float) -> torch.Tensor:
    """max(factor, 0)^weight, with gradient 0 instead of NaN where the factor is not positive; NaN stays NaN."""
    lost = factor <= 0
    return torch.where(lost, 0.0, torch.where(lost, 1.0, factor) ** weight)
