"""Fewer bits a colour value (Xu, Evans & Qi 2018, section III-A)."""

from __future__ import annotations

import torch


def bit_depth(images: torch.Tensor, bits: int) -> torch.Tensor:
    """round(x (2^b - 1)) / (2^b - 1) of every value of `images` `(N, C, H, W)` in [0, 1]; halves to the even step."""
    steps = (1 << bits) - 1
    return (images * steps).round() / steps
