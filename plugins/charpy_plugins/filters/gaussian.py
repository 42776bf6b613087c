"""Gaussian smoothing."""

from __future__ import annotations

import math

import torch

from charpy.windows import reflected

REACH = 4.0
"""Standard deviations at which the kernel ends."""


def gaussian(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """`images` `(N, C, H, W)` weighted with exp(-distance^2 / (2 sigma^2)), mirrored at the border; `sigma` in pixels.

    Each channel for itself, rows and columns one after the other; the kernel ends at four standard deviations.
    """
    radius = int(REACH * sigma + 0.5)
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    total = sum(weights)
    height, width = images.shape[-2:]
    rows = reflected(images, radius, radius, 0, 0)
    mean = torch.zeros_like(images)
    for place, weight in enumerate(weights):
        mean = mean + rows[..., place : place + height, :] * (weight / total)
    columns = reflected(mean, 0, 0, radius, radius)
    smooth = torch.zeros_like(images)
    for place, weight in enumerate(weights):
        smooth = smooth + columns[..., place : place + width] * (weight / total)
    return smooth
