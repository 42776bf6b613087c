"""Non-local means (Buades, Coll & Morel 2005): the mean of pixels whose surroundings look alike."""

from __future__ import annotations

import torch

from charpy.windows import reflected


def non_local_means(images: torch.Tensor, search: int, patch: int, strength: float) -> torch.Tensor:
    """Each pixel's mean over a search window, weighted by how alike the patches around the two pixels are.

    The weight is exp(-m / h^2), m the mean of the squared differences of two patches over their pixels and channels.

    Differs from the filter of Xu, Evans & Qi 2018, which is OpenCV's: a colour image is compared in RGB, all channels
    together, not lightness and colour apart in CIELAB; weights are exact.

    Args:
        images: `(N, C, H, W)`, mirrored at the border.
        search, patch: sides of the two windows in pixels, odd.
        strength: h, in image values.
    """
    height, width = images.shape[-2:]
    reach, around = search // 2, patch // 2
    padded = reflected(images, *(4 * [reach + around]), edge=False)
    here = _cut(padded, reach, reach, height + 2 * around, width + 2 * around)
    total, moved = torch.zeros_like(images[:, :1]), torch.zeros_like(images)
    for top in range(search):
        for left in range(search):
            there = _cut(padded, top, left, height + 2 * around, width + 2 * around)
            distance = _box_sum((there - here).square().sum(1, keepdim=True), patch) / (patch**2 * images.shape[1])
            weight = torch.exp(distance * (-1 / strength**2))
            total += weight
            moved += weight * (_cut(there, around, around, height, width) - images)
    return images + moved / total


def _cut(images: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return images[..., top : top + height, left : left + width]


def _box_sum(values: torch.Tensor, side: int) -> torch.Tensor:
    """Sums over windows of `side` x `side` that lie inside."""
    height, width = values.shape[-2] - side + 1, values.shape[-1] - side + 1
    rows = sum((values[..., top : top + height, :] for top in range(1, side)), values[..., :height, :])
    return sum((rows[..., left : left + width] for left in range(1, side)), rows[..., :width])
