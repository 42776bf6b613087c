"""What an eye can tell apart: thresholds, sensitivity, masking, and the pyramid that they are read from."""

from __future__ import annotations

import torch

LEVELS = 8
KERNEL = (0.05, 0.25, 0.4, 0.25, 0.05)  # Burt & Adelson 1983, with a = 0.4


def threshold(luminance: torch.Tensor) -> torch.Tensor:
    """Least difference of luminance that is seen by an eye adapted to `luminance`, both in cd/m2.

    Source: Ward Larson, Rushmeier & Piatko 1997 (A visibility matching tone reproduction operator), table 1.
    """
    log = luminance.log10()
    rods = (0.405 * log + 1.6).clamp(min=0) ** 2.18 - 2.86
    cones = (0.249 * log + 0.65).clamp(min=0) ** 2.7 - 0.72
    power = torch.where(log < -3.94, -2.86, rods)
    for start, piece in ((-1.44, log - 0.395), (-0.0184, cones), (1.9, log - 1.255)):
        power = torch.where(log < start, power, piece)
    return 10**power


def sensitivity(frequency: float, luminance: torch.Tensor | float) -> torch.Tensor:
    """How little contrast is seen at a frequency, in cycles per degree, and a luminance, in cd/m2 (Barten 1989)."""
    if not isinstance(luminance, torch.Tensor):
        luminance = torch.tensor(luminance, dtype=torch.float64, device="cpu")
    light = luminance.double()
    height = 440 * (1 + 0.7 / light) ** -0.2
    fall = 0.3 * (1 + 100 / light) ** 0.15 * frequency
    return height * frequency * torch.exp(-fall) * (1 + 0.06 * torch.exp(fall)).sqrt()


def masking(contrast: torch.Tensor) -> torch.Tensor:
    """How many times the threshold is raised by a contrast, normalised by the sensitivity (Daly 1993)."""
    return (1 + (0.0153 * (392.498 * contrast) ** 0.7) ** 4) ** 0.25


def pyramid(images: torch.Tensor, octaves: bool) -> list[torch.Tensor]:
    """`LEVELS` ever smoother copies of float64 `images` `(N, H, W)`, all of their size; the border mirrors them.

    Args:
        images: any values.
        octaves: spread the kernel twofold each time, as between the levels of a Laplacian pyramid that is not thinned
            out; else every level is the one before, smoothed once more.
    """
    levels = [images]
    for level in range(LEVELS - 1):
        rows, columns = (_smoothing(side, 2**level if octaves else 1, images) for side in images.shape[1:])
        levels.append(rows @ levels[-1] @ columns.T)
    return levels


def _smoothing(side: int, step: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix that smooths a line of `side` pixels, with a kernel of one weight every `step` pixels."""
    reach = len(KERNEL) // 2
    places, kernel = (torch.arange(*ends, device=like.device) for ends in ((side,), (-reach, reach + 1)))
    places = places[:, None] + step * kernel
    there_and_back = max(2 * side - 2, 1)
    places = places % there_and_back
    places = torch.where(places < side, places, there_and_back - places)
    weights = torch.tensor(KERNEL, dtype=like.dtype, device=like.device).expand(side, -1)
    return like.new_zeros(side, side).scatter_add_(1, places, weights)
