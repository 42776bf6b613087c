"""Training one network: a seeded loop of batches that can stop after any epoch, and go on as if it had not.

What a step is differs: `classifier_training`, `gan_training`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from charpy.errors import ModelError
from charpy.pixels import as_images
from charpy_models.augmentation import augment
from charpy_models.checkpoint import State
from charpy_models.recipe import Precision, Recipe


class Images(NamedTuple):
    """`images` `(N, C, H, W)`, uint8, or float32 in [0, 1], and their `labels`, int64 `(N,)`; both on the CPU."""

    images: torch.Tensor
    labels: torch.Tensor


class Progress(NamedTuple):
    """Where a training stands: after each step, and with the epoch's `loss` after its last one."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    kept: float | None = None
    """Share of the held-out images that are right (of an adversarial training: and stay so under PGD)."""


class Best(NamedTuple):
    """The weights of the epoch that did best on the held-out images, how many it got right, and its number."""

    epoch: int
    correct: int
    weights: dict[str, torch.Tensor]


class Trained(NamedTuple):
    """A network in eval mode, the epoch that its weights are of, and how many held-out images it gets right."""

    module: nn.Module
    epoch: int
    correct: int | None


Listener = Callable[[Progress], None]


class Training(ABC):
    """A network on its way, and everything that its next step depends on.

    Attributes:
        module: the network, in train mode.
        epochs: of the whole training.
        each: batches in an epoch.
        epoch: how many are over.
    """

    module: nn.Module

    def __init__(
        self,
        recipe: Recipe,
        data: Images,
        held_out: Images | None,
        seed: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.recipe, self.data, self.held_out, self.seed = recipe, data, held_out, seed
        self.device, self.precision = device, precision
        self.epochs = recipe.epochs
        self.each = math.ceil(len(data.images) / recipe.batch_size)
        self.epoch = 0

    @abstractmethod
    def learn(self, images: torch.Tensor, labels: torch.Tensor, batch: int) -> torch.Tensor:
        """Learn from batch number `batch`, float32 `(B, C, H, W)` in [0, 1] with its labels `(B,)`; the mean loss."""

    @abstractmethod
    def judge(self) -> float | None:
        """The share of held-out images that are right, if there are any."""

    @abstractmethod
    def result(self) -> Trained:
        """The network with the weights that are kept."""

    def fresh(self) -> nn.Module:
        """The network in train mode, its weights drawn from the global generator."""
        module = self.recipe.build().train().to(self.device)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        return module

    def precisely(self) -> torch.autocast:
        """The context in which passes are computed."""
        kind = getattr(torch, self.precision)
        return torch.autocast(self.device.type, dtype=kind, enabled=self.precision is not Precision.FLOAT32)

    def run_epoch(self, listen: Listener | None) -> Progress:
        """All images once; the mean of the loss, and what the held-out images say."""
        number, count = self.epoch + 1, len(self.data.images)
        total = torch.zeros((), device=self.device)
        for step, rows in enumerate(torch.split(torch.randperm(count), self.recipe.batch_size), start=1):
            total += self._learn_rows(rows, self.epoch * self.each + step - 1) * len(rows)
            if listen is not None:
                listen(Progress(number, self.epochs, step, self.each))
        mean = float(total) / count
        if not math.isfinite(mean):
            raise ModelError(
                "training has diverged",
                where=f"epoch {number}",
                found=f"mean loss {mean}",
                expected="a finite loss",
                hint="lower the recipe's learning_rate",
            )
        self.epoch = number
        return Progress(number, self.epochs, self.each, self.each, mean, self.judge())

    def _learn_rows(self, rows: torch.Tensor, batch: int) -> torch.Tensor:
        labels = self.data.labels[rows].to(self.device)
        images = augment(as_images(self.data.images[rows].to(self.device)), self.recipe.augmentation)
        return self.learn(images.contiguous(memory_format=torch.channels_last), labels, batch)

    def state(self) -> State:
        """What `load` needs to go on from here, the random generators included."""
        return {
            "epoch": self.epoch,
            "module": self.module.state_dict(),
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.epoch = state["epoch"]
        self.module.load_state_dict(state["module"])
        torch.set_rng_state(state["random"])
        if state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"], self.device)
