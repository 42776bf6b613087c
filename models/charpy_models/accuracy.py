"""How many answers of a network are right, clean and under attack."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from charpy.pixels import as_images
from charpy.training import pgd


def count_correct(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int = 256) -> int:
    """How many of `images` `(N, C, H, W)` (uint8, or float32 in [0, 1]) get their label, int64 `(N,)`.

    They are taken to the module's device batch by batch.
    """
    correct = 0
    with torch.inference_mode():
        for batch, truth in _batches(module, images, labels, batch_size):
            correct += int((module(batch).argmax(1) == truth).sum())
    return correct


def count_robust(
    module: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    radius: float,
    steps: int,
    seed: int,
    batch_size: int = 256,
) -> int:
    """How many of `images` (as for `count_correct`) keep their label, clean and under one run of `pgd`.

    A step is 2.5 * radius / steps long, Madry et al.'s choice. An upper bound of the robust accuracy, no more.
    """
    robust = 0
    device = _device_of(module, images)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for clean, truth in _batches(module, images, labels, batch_size):
            changed = pgd(module, clean, truth, radius=radius, steps=steps, step_size=2.5 * radius / steps)
            with torch.inference_mode():
                right = (module(clean).argmax(1) == truth) & (module(changed).argmax(1) == truth)
            robust += int(right.sum())
    return robust


def _batches(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images float32 and labels on the module's device."""
    device = _device_of(module, images)
    for batch, truth in zip(torch.split(images, size), torch.split(labels, size), strict=True):
        yield as_images(batch.to(device)).contiguous(memory_format=torch.channels_last), truth.to(device)


def _device_of(module: nn.Module, images: torch.Tensor) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), images.device)
