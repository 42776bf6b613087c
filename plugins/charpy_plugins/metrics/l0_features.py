"""L0 in features: how many single values of an image changed."""

from __future__ import annotations

import torch

from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair


class L0Features(Metric):
    """How many features changed; a feature is one channel at one place, so a colour pixel counts up to three times.

    ||x' - x||_0 over all C * H * W values, as sigma-zero and other gradient attacks count. Exact comparison, without a
    tolerance; not differentiable.
    """

    unit = "features"

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` float32 whole numbers from 0 to C * H * W."""
        check_pair(images, perturbed)
        return (images != perturbed).flatten(1).sum(1).to(torch.float32)
