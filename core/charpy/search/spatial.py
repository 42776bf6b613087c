"""Rotation and translation by numbers in [-1, 1], whose ends are the largest that an attack may make."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charpy.warp import Outside, affine

ENGSTROM = "Engstrom et al. 2019"


@dataclass(frozen=True)
class Reach:
    """The largest rotation in degrees, the largest translation as a share of the side, and what comes in."""

    rotation: float
    translation: float
    outside: Outside

    def moved(self, images: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """`images` `(B, C, H, W)` moved by `unit` `(B, 3)` in [-1, 1]: the angle, the shift down and to the right."""
        height, width = images.shape[2:]
        shift = unit[:, 1:] * self.translation * torch.tensor([height, width], device=unit.device)
        return affine(images, unit[:, 0] * self.rotation, shift, outside=self.outside)
