"""What the Lp distances share: checked pairs, the scale, and the norm of the difference."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from charpy.errors import DataError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric


def check_pair(images: torch.Tensor, perturbed: torch.Tensor) -> None:
    """Refuse pairs that do not match: torch would broadcast them, or wrap uint8 around, without a word.

    Raises:
        DataError: other than two float tensors of one shape `(N, C, H, W)`.
    """
    good = images.ndim == 4 and images.shape == perturbed.shape
    if not (good and images.is_floating_point() and perturbed.is_floating_point()):
        raise DataError(
            "a metric compares pairs of images",
            found=f"{images.dtype} {tuple(images.shape)} and {perturbed.dtype} {tuple(perturbed.shape)}",
            expected="two float tensors of one shape (N, C, H, W)",
        )


class LpDistance(Metric):
    """Base of the L1, L2 and Linf distances over all features of an image."""

    class Params(BaseParams):
        """The scale of the values."""

        scale: Literal[1, 255] = param(
            1,
            description="1: images in [0, 1]; 255: the 0..255 scale",
            unit="image values",
            source="Kotyan & Vargas (2020) count in 0..255",
        )

    order: ClassVar[float]

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.unit = "image values" if self.params.scale == 1 else "1/255 steps"

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable; where the images are equal the subgradient is 0."""
        check_pair(images, perturbed)
        distance: torch.Tensor = torch.linalg.vector_norm((perturbed - images).flatten(1), self.order, dim=1)
        scale: int = self.params.scale
        return distance * scale
