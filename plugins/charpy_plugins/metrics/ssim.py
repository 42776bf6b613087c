"""Structural similarity: luminance, contrast and structure of small windows."""

from __future__ import annotations

import torch

from charpy.interfaces.component import param
from charpy.interfaces.metric import Direction, Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import WindowParams, common_dtype, fitting, sigma_of, torchmetrics_image


class Ssim(Metric):
    """Structural similarity (SSIM) of Wang, Bovik, Sheikh & Simoncelli 2004, eq. 13.

    The mean over channels and over the windows that lie wholly inside the image, by torchmetrics, in float64
    (torchmetrics alone also counts windows over the border, filled by mirroring). Where the window does not fit, the
    largest odd one that does is taken: 7 at 8 x 8 pixels; its standard deviation is in proportion (both ours).
    Symmetric; 1 between equals.
    """

    unit = "1"
    direction = Direction.SIMILARITY
    range = (-1.0, 1.0)

    class Params(WindowParams):
        """The window, the scale of the values and the two constants."""

        data_range: float = param(
            1, gt=0, le=255, description="largest less smallest possible value of an image", unit="image values"
        )
        k1: float = param(0.01, gt=0, le=1, description="steadies the luminance", source="Wang et al. 2004, III.B")
        k2: float = param(0.03, gt=0, le=1, description="steadies the contrast", source="Wang et al. 2004, III.B")

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` similarities, differentiable; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or images below 3 x 3 pixels.
        """
        check_pair(images, perturbed)
        window = fitting(self.params.window, images)
        constants = (self.params.data_range, self.params.k1, self.params.k2)
        return mean_ssim(images.double(), perturbed.double(), window, *constants).to(common_dtype(images, perturbed))


def mean_ssim(
    images: torch.Tensor, perturbed: torch.Tensor, window: int, data_range: float, k1: float, k2: float
) -> torch.Tensor:
    """`(N,)` means of the SSIM over the windows inside the images."""
    _, everywhere = torchmetrics_image().structural_similarity_index_measure(
        perturbed,
        images,
        sigma=sigma_of(window),  # torchmetrics takes the side of a Gaussian window from it: 2 int(3.5 sigma + 0.5) + 1
        reduction="none",
        data_range=float(data_range),
        k1=k1,
        k2=k2,
        return_full_image=True,
    )
    border = window // 2
    inside: torch.Tensor = everywhere[..., border:-border, border:-border]
    return inside.mean(dim=(1, 2, 3))
