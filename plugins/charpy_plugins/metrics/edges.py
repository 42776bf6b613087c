"""How many of the edges are corrupted."""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d, pad

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair


class Edges(Metric):
    """Share of the edge pixels of either image that are not edge pixels of both: 1 - |E n E'| / |E u E'|.

    A pixel is on an edge where Sobel's operator, divided by 4 so that a step from 0 to 1 gives 1, is longer than the
    threshold in some channel; the border repeats. That an attack be judged by what it does to the edges is Jang, Wu &
    Jha 2017 (ACSAC); this detector, without thinning, and the formula are ours. 0 where neither image has an edge.
    Symmetric; not differentiable.
    """

    unit = "1"
    range = (0.0, 1.0)

    class Params(BaseParams):
        """What counts as an edge."""

        threshold: float = param(
            0.25, gt=0, lt=1, description="the smallest step that is an edge", unit="image values", source="ours"
        )

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` float32 shares without a gradient; NaN where an image holds one.

        Raises:
            DataError: not a pair of images.
        """
        check_pair(images, perturbed)
        before, after = (_edges(part, self.params.threshold) for part in (images, perturbed))
        either = (before | after).sum(1)
        share = (before ^ after).sum(1) / either.clamp(min=1)
        unknown = (images.isnan() | perturbed.isnan()).flatten(1).any(1)
        return share.masked_fill(unknown, float("nan")).to(torch.float32)


def _edges(images: torch.Tensor, threshold: float) -> torch.Tensor:
    """`(N, H * W)`: whether each pixel is on an edge."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64, device=images.device) / 4
    channels = pad(images.double(), (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)
    slopes = conv2d(channels, torch.stack([across, across.T]).unsqueeze(1))
    steps: torch.Tensor = torch.linalg.vector_norm(slopes, dim=1).unflatten(0, images.shape[:2])
    return (steps > threshold).any(1).flatten(1)
