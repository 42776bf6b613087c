"""Training and measuring one network: a seeded loop of batches, with augmentation of whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import ModelError
from charpy.pixels import as_images
from charpy_models.recipes import Augmentation, Recipe

Progress = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and its mean loss."""


def augment(images: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """`images` `(N, C, H, W)` flipped and shifted, each in its own way; drawn from torch's global generator."""
    if augmentation.shift:
        images = _shift(images, augmentation.shift)
    if augmentation.flip:
        mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    return images


def fit(
    recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, *, seed: int, progress: Progress | None = None
) -> nn.Module:
    """A network trained by `recipe`; the same weights for the same seed, thread count and torch.

    Args:
        recipe: network, schedule and augmentation.
        images: `(N, C, H, W)`, uint8, or float32 in [0, 1].
        labels: int64 `(N,)`.
        seed: of the first weights, the order of the images, and the augmentation.
        progress: told the mean loss of every epoch.

    Raises:
        ModelError: the loss is no longer finite.
    """
    # The caller's generator is left as it was: a library that reseeds it changes other people's results.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.build().train()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        optimiser = torch.optim.AdamW(module.parameters(), weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=recipe.learning_rate,
            total_steps=recipe.epochs * math.ceil(len(images) / recipe.batch_size),
            pct_start=recipe.warm_up,
        )
        for epoch in range(1, recipe.epochs + 1):
            total = torch.zeros(())
            for rows in torch.split(torch.randperm(len(images)), recipe.batch_size):
                batch = augment(as_images(images[rows]), recipe.augmentation)
                scores = module(batch.contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(scores, labels[rows])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                total += loss.detach() * len(rows)
            mean = float(total) / len(images)
            if not math.isfinite(mean):
                raise ModelError(
                    "training has diverged",
                    where=f"epoch {epoch}",
                    found=f"mean loss {mean}",
                    hint="lower the recipe's learning_rate",
                )
            if progress is not None:
                progress(epoch, mean)
    return module.eval()


def count_correct(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int = 256) -> int:
    """How many of `images` `(N, C, H, W)` (uint8, or float32 in [0, 1]) get their label, int64 `(N,)`."""
    correct = 0
    with torch.inference_mode():
        for batch, truth in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
            scores = module(as_images(batch).contiguous(memory_format=torch.channels_last))
            correct += int((scores.argmax(1) == truth).sum())
    return correct


def _shift(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image moved by its own whole number of pixels in -most..most, both ways; what comes in is black."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, 2*most+1, 2*most+1, H, W)
    down, right = torch.randint(0, 2 * most + 1, (2, count))
    return windows[torch.arange(count), :, down, right]
