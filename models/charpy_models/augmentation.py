"""Random changes of whole batches of training images."""

from __future__ import annotations

import torch
from torch.nn import functional

from charpy_models.recipe import Augmentation


def augment(images: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """`images` `(N, C, H, W)` flipped and shifted, each in its own way, on their device.

    Drawn from torch's global generator on the CPU, so that a GPU is given the same draws.
    """
    if augmentation.shift:
        images = _shift(images, augmentation.shift)
    if augmentation.flip:
        mirrored = (torch.rand(len(images), 1, 1, 1) < 0.5).to(images.device)
        images = torch.where(mirrored, images.flip(3), images)
    return images


def _shift(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image moved by its own whole number of pixels in -most..most, both ways; what comes in is black."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, 2*most+1, 2*most+1, H, W)
    down, right = torch.randint(0, 2 * most + 1, (2, count)).to(images.device)
    return windows[torch.arange(count, device=images.device), :, down, right]
