"""The share of pixels that differ."""

import torch

from charpy.interfaces.metric import Metric


class ChangedShare(Metric):
    """L0 in pixels, divided by the number of pixels."""

    unit = "1"
    range = (0.0, 1.0)

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` shares of `(N, C, H, W)` pairs."""
        return (images != perturbed).any(dim=1).flatten(1).float().mean(dim=1)
