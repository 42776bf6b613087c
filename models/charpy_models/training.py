"""Training one network: a seeded loop of batches that can stop after any epoch, and go on as if it had not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import ModelError, PluginError
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.pixels import as_images
from charpy_models.accuracy import count_correct, count_robust
from charpy_models.augmentation import augment
from charpy_models.checkpoint import Checkpoint, State
from charpy_models.defenses import defenses_of, measured, robust_at
from charpy_models.recipes import Precision, Recipe
from charpy_models.schedule import schedule_of

PGD_STEPS = 10
"""Of the attack that tells which epoch of an adversarial training was the best."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The mean loss of scores `(N, K)` for labels, int64 `(N,)`."""


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


def training_loss(module: nn.Module) -> Loss:
    """What `module` is trained to make small: its own `loss(scores, labels)` if it has one, else the cross-entropy."""
    loss: Loss = getattr(module, "loss", functional.cross_entropy)
    return loss


def fit(
    recipe: Recipe,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    seed: int,
    held_out: Images | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = Precision.FLOAT32,
    checkpoint: Checkpoint | None = None,
    listen: Listener | None = None,
) -> Trained:
    """A network trained by `recipe`; on the CPU, the same weights for the same seed, thread count and torch.

    Args:
        recipe: network, schedule, augmentation and defences.
        images: `(N, C, H, W)`, uint8, or float32 in [0, 1].
        labels: int64 `(N,)`.
        seed: of the first weights, the order of the images, the augmentation and what the defences draw.
        held_out: the weights of the epoch that does best on these are kept (of equals the last); else the last epoch's.
        device: where it is trained.
        precision: of the forward and backward passes; the attacks of an adversarial training stay in float32.
        checkpoint: read first, and written after each epoch.
        listen: told where the training stands.

    Raises:
        ModelError: the loss is no longer finite.
        SpecError: a defence of the recipe cannot be trained with.
        RunFileError: the checkpoint cannot be used.
    """
    place = torch.device(device)
    # The caller's generator is left as it was: a library that reseeds it changes other people's results.
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        training = _Training(recipe, Images(images, labels), held_out, seed, place, precision)
        if checkpoint is not None and (state := checkpoint.read()) is not None:
            training.load(state)
        while training.epoch < training.epochs:
            training.begin_phase()
            now = training.run_epoch(listen)
            if checkpoint is not None:
                checkpoint.write(training.state())
            if listen is not None:
                listen(now)
    return training.result()


class _Training:
    """A network on its way, and everything that its next step depends on."""

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
        self.defenses = defenses_of(recipe)
        self.phases = max((defense.phases for defense in self.defenses), default=1)
        self.replays = math.prod(defense.replays for defense in self.defenses)
        self.radius = robust_at(self.defenses)
        self.epochs = self.phases * recipe.epochs
        self.each = math.ceil(len(data.images) / recipe.batch_size)
        self.epoch = 0
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Fresh weights, drawn from the global generator, and an optimiser that has not moved."""
        recipe, device = self.recipe, self.device
        self.module = recipe.build().train().to(device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.optimiser = torch.optim.AdamW(self.module.parameters(), weight_decay=recipe.weight_decay)
        self.schedule = schedule_of(recipe, self.optimiser, recipe.epochs * self.each * self.replays)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is Precision.FLOAT16)
        self.best: Best | None = None

    def begin_phase(self) -> None:
        """Tell the defences, where a phase begins with the next epoch; after the first, with a fresh network."""
        if self.epoch % self.recipe.epochs:
            return
        phase, before = self.epoch // self.recipe.epochs, None
        if phase:
            before = self.result().module
            self._start_afresh()
        for defense in self.defenses:
            defense.begin(phase, before)

    def run_epoch(self, listen: Listener | None) -> Progress:
        """All images once; the mean of the loss, and what the held-out images say."""
        number, count = self.epoch + 1, len(self.data.images)
        total = torch.zeros((), device=self.device)
        for step, rows in enumerate(torch.split(torch.randperm(count), self.recipe.batch_size), start=1):
            total += self._learn(rows, self.epoch * self.each + step - 1) * len(rows)
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
        return Progress(number, self.epochs, self.each, self.each, mean, self._judge())

    def _learn(self, rows: torch.Tensor, batch: int) -> torch.Tensor:
        """The steps on the images of `rows`, batch number `batch`; their mean loss."""
        labels = self.data.labels[rows].to(self.device)
        images = augment(as_images(self.data.images[rows].to(self.device)), self.recipe.augmentation)
        images = images.contiguous(memory_format=torch.channels_last)
        losses = [self._step(images, labels, batch * self.replays + replay) for replay in range(self.replays)]
        return torch.stack(losses).mean()

    def _step(self, images: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
        """One step of the optimiser, as the defences want it; the mean loss."""
        done = self.schedule.last_epoch / (self.recipe.epochs * self.each * self.replays)
        lesson = Lesson(self.module, images, labels, done, number, self.seed, self._scores, training_loss(self.module))
        for defense in self.defenses:
            lesson = replace(lesson, images=_images_for(defense, lesson))
        for defense in self.defenses:
            lesson = replace(lesson, loss=_loss_of(defense, lesson))
        loss = lesson.loss(self._scores(lesson.images), labels)
        self.optimiser.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimiser)
        before = self.scaler.get_scale()
        self.scaler.update()
        if self.scaler.get_scale() >= before:  # else float16 overflowed and the step was left out
            self.schedule.step()
        for defense in self.defenses:
            defense.learned(lesson)
        return loss.detach()

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        kind = getattr(torch, self.precision)
        with torch.autocast(self.device.type, dtype=kind, enabled=self.precision is not Precision.FLOAT32):
            scores: torch.Tensor = self.module(images)
        return scores.float()

    def _judge(self) -> float | None:
        """The share of held-out images that are right; the weights are kept if there were never more."""
        if self.held_out is None:
            return None
        self.module.eval()
        if self.radius is None:
            correct = count_correct(measured(self.module, self.defenses, self.held_out.images), *self.held_out)
        else:
            correct = count_robust(self.module, *self.held_out, radius=self.radius, steps=PGD_STEPS, seed=self.seed)
        self.module.train()
        if self.best is None or correct >= self.best.correct:
            weights = {name: value.cpu().clone() for name, value in self.module.state_dict().items()}
            self.best = Best(self.epoch, correct, weights)
        return correct / len(self.held_out.labels)

    def state(self) -> State:
        """What `load` needs to go on from here, the random generators included."""
        return {
            "epoch": self.epoch,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": None if self.best is None else self.best._asdict(),
            "defenses": [defense.state() for defense in self.defenses],
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.epoch = state["epoch"]
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.best = None if state["best"] is None else Best(**state["best"])
        for defense, own in zip(self.defenses, state["defenses"], strict=True):
            defense.load(own, self.module)
        torch.set_rng_state(state["random"])
        if state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"], self.device)

    def result(self) -> Trained:
        """The network with the weights that are kept."""
        if self.best is None:
            return Trained(self.module.eval(), self.epoch, None)
        self.module.load_state_dict(self.best.weights)
        return Trained(self.module.eval(), self.best.epoch, self.best.correct)


def _images_for(defense: TrainingDefense, lesson: Lesson) -> torch.Tensor:
    """What `defense` gives to learn from.

    Raises:
        PluginError: not one image for each label.
    """
    images = defense.images_for(lesson)
    if images.ndim != 4 or len(images) != len(lesson.labels):
        raise PluginError(
            "the defence does not give one image for each image",
            where=type(defense).__name__,
            found=tuple(images.shape),
            expected=f"({len(lesson.labels)}, C, H, W)",
        )
    return images.contiguous(memory_format=torch.channels_last)


def _loss_of(defense: TrainingDefense, lesson: Lesson) -> Loss:
    """The loss of `defense`, which may use that of the lesson."""
    return lambda scores, labels: defense.loss(replace(lesson, labels=labels), scores)
