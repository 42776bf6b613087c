"""The bilateral filter (Tomasi & Manduchi 1998): the mean of near pixels of a similar colour."""

from __future__ import annotations

import math

import torch

from charpy.windows import neighbours


def bilateral(
    images: torch.Tensor, window: int, sigma_space: float, sigma_colour: float, *, guide: torch.Tensor | None = None
) -> torch.Tensor:
    """Each pixel's mean over its window, weighted by nearness and by likeness (eq. 5 and section 2.1).

    The weight of a neighbour is exp(-d^2 / (2 sigma_space^2)) exp(-c^2 / (2 sigma_colour^2)), d its distance in pixels,
    c the Euclidean distance of the two colours, over all channels together.

    Args:
        images: `(N, C, H, W)`, mirrored at the border.
        window: side of the window in pixels.
        sigma_space, sigma_colour: standard deviations, in pixels and in image values.
        guide: `(N, K, H, W)` whose colours are compared instead of those of `images` (the joint, or guided, filter).
    """
    colours = images if guide is None else guide
    total, moved = torch.zeros_like(images[:, :1]), torch.zeros_like(images)
    around = zip(neighbours(images, window, window), neighbours(colours, window, window), strict=True)
    for place, (neighbour, seen) in enumerate(around):
        row, column = place // window - window // 2, place % window - window // 2
        nearness = (row**2 + column**2) / (2 * sigma_space**2)
        contrast = seen - colours
        likeness = contrast.square().sum(1, keepdim=True) / (2 * sigma_colour**2)
        weight = torch.exp(-likeness) * math.exp(-nearness)
        total += weight
        moved += weight * (contrast if guide is None else neighbour - images)
    return images + moved / total
