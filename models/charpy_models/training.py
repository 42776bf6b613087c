"""Training and measuring one network: a seeded loop of batches, with augmentation of whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import ModelError
from charpy.pixels import as_images
from charpy_models.recipes import AdversarialTraining, Augmentation, Recipe

Progress = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and its mean loss."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The mean loss of scores `(N, K)` for labels, int64 `(N,)`."""


def augment(images: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """`images` `(N, C, H, W)` flipped and shifted, each in its own way; drawn from torch's global generator."""
    if augmentation.shift:
        images = _shift(images, augmentation.shift)
    if augmentation.flip:
        mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    return images


def training_loss(module: nn.Module) -> Loss:
    """What `module` is trained to make small: its own `loss(scores, labels)` if it has one, else the cross-entropy."""
    loss: Loss = getattr(module, "loss", functional.cross_entropy)
    return loss


def fit(
    recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, *, seed: int, progress: Progress | None = None
) -> nn.Module:
    """A network trained by `recipe`; the same weights for the same seed, thread count and torch.

    Args:
        recipe: network, schedule and augmentation.
        images: `(N, C, H, W)`, uint8, or float32 in [0, 1].
        labels: int64 `(N,)`.
        seed: of the first weights, the order of the images, the augmentation and the attack's random starts.
        progress: told the mean loss of every epoch.

    Raises:
        ModelError: the loss is no longer finite.
    """
    # The caller's generator is left as it was: a library that reseeds it changes other people's results.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.build().train()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        loss_of = training_loss(module)
        optimiser = torch.optim.AdamW(module.parameters(), weight_decay=recipe.weight_decay)
        steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=recipe.learning_rate,
            total_steps=steps,
            pct_start=recipe.warm_up,
        )
        for epoch in range(1, recipe.epochs + 1):
            total = torch.zeros(())
            for rows in torch.split(torch.randperm(len(images)), recipe.batch_size):
                batch = augment(as_images(images[rows]), recipe.augmentation)
                batch = batch.contiguous(memory_format=torch.channels_last)
                if recipe.adversarial is not None:
                    done = schedule.last_epoch / steps
                    batch = _adversarial(module, batch, labels[rows], recipe.adversarial, done)
                loss = loss_of(module(batch), labels[rows])
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


def pgd(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, radius: float, steps: int, step_size: float
) -> torch.Tensor:
    """Images `(N, C, H, W)` in the Linf ball of `radius` around `images`, of high cross-entropy (Madry et al. 2018).

    x_0 is uniform in the ball; x_{t+1} = P(x_t + step_size * sign grad CE(x_t)), P the projection onto ball and box.
    The last step's image is returned, as training wants it. Drawn from torch's global generator; the module's
    parameters get no gradient.
    """
    low, high = (images - radius).clamp_(min=0), (images + radius).clamp_(max=1)
    adversarial = torch.empty_like(images).uniform_(-radius, radius).add_(images).clamp_(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_()
        # The sum, not the mean: a row's gradient must not shrink with the batch until float32 rounds it to zero.
        loss = functional.cross_entropy(module(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + step_size * gradient.sign(), low, high)
    return adversarial


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for batch, truth in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
            clean = as_images(batch).contiguous(memory_format=torch.channels_last)
            attacked = pgd(module, clean, truth, radius=radius, steps=steps, step_size=2.5 * radius / steps)
            with torch.inference_mode():
                right = (module(clean).argmax(1) == truth) & (module(attacked).argmax(1) == truth)
            robust += int(right.sum())
    return robust


def _adversarial(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, training: AdversarialTraining, done: float
) -> torch.Tensor:
    """The batch that a network is trained on when the share `done` of its training lies behind it."""
    share = 1.0 if done >= training.ramp else done / training.ramp
    # The attack faces the network as it will be used; so too, its images do not move the batch normalisation.
    module.eval()
    attacked = pgd(
        module,
        images,
        labels,
        radius=training.radius * share,
        steps=training.steps,
        step_size=training.step_size * share,
    )
    module.train()
    return attacked


def _shift(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image moved by its own whole number of pixels in -most..most, both ways; what comes in is black."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, 2*most+1, 2*most+1, H, W)
    down, right = torch.randint(0, 2 * most + 1, (2, count))
    return windows[torch.arange(count), :, down, right]
