"""How much of the gradients of the image is corrupted."""

from __future__ import annotations

import torch

from charpy.errors import DataError
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import common_dtype


class Gradients(Metric):
    """Root mean square length of the change of the image's gradient: sqrt(mean |grad x' - grad x|^2).

    The gradient is over the pixels' places, by central differences (one-sided at the border); the mean is over places
    and channels. That an attack be judged by what it does to the gradients is Jang, Wu & Jha 2017 (ACSAC); the formula
    is ours. 0 also between images that differ by a constant. Symmetric.
    """

    unit = "image values per pixel"
    range = (0.0, 8.0**0.5)

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable; where the gradients are equal the subgradient is 0.

        Raises:
            DataError: not a pair of images, or images below 2 x 2 pixels.
        """
        check_pair(images, perturbed)
        if min(images.shape[-2:]) < 2:
            raise DataError(
                "the images are too small for a gradient",
                found=f"{images.shape[-2]} x {images.shape[-1]} pixels",
                expected="at least 2 x 2 pixels",
                hint="use a metric without neighbours: psnr, l2, linf, ...",
            )
        change = perturbed.double() - images.double()
        slopes = torch.stack(torch.gradient(change, dim=(2, 3)), dim=1).flatten(1)
        distance: torch.Tensor = torch.linalg.vector_norm(slopes, dim=1) / change[0].numel() ** 0.5
        return distance.to(common_dtype(images, perturbed))
