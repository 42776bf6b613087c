"""How much of the Fourier transform is corrupted."""

from __future__ import annotations

import torch

from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import common_dtype


class Fourier(Metric):
    """Root mean square change of the log spectrum: sqrt(mean (log(1 + |F(x')|) - log(1 + |F(x)|))^2).

    F is each channel's orthonormal two-dimensional Fourier transform; the mean is over frequencies and channels. That
    an attack be judged by what it does to the Fourier transform is Jang, Wu & Jha 2017 (ACSAC); the formula is ours. Of
    the complex values themselves the change would be that of L2 (Parseval); the logarithm lets the faint high
    frequencies count, where noise is. Without phases: 0 also between an image and the same one moved around. Symmetric.
    """

    unit = "log(1 + magnitude)"

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable; NaN where an image holds one.

        Raises:
            DataError: not a pair of images.
        """
        check_pair(images, perturbed)
        change = (_log_spectrum(perturbed) - _log_spectrum(images)).flatten(1)
        distance: torch.Tensor = torch.linalg.vector_norm(change, dim=1) / change.shape[1] ** 0.5
        return distance.to(common_dtype(images, perturbed))


def _log_spectrum(images: torch.Tensor) -> torch.Tensor:
    spectrum: torch.Tensor = torch.fft.fft2(images.double(), norm="ortho")
    return spectrum.abs().log1p()
