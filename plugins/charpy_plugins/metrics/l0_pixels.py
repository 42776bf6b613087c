"""L0 in pixels: how many places of an image changed."""

from __future__ import annotations

import torch

from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair


class L0Pixels(Metric):
    """How many pixels changed; a pixel is all channels at one place, and counts once however many of them changed.

    ||x' - x||_0 over places, as Kotyan & Vargas (2020) count th. Exact comparison, without a tolerance; not
    differentiable.
    """

    unit = "pixels"

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` float32 whole numbers from 0 to H * W."""
        check_pair(images, perturbed)
        return (images != perturbed).any(dim=1).flatten(1).sum(1).to(torch.float32)
