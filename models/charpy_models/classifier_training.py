"""Training a classifier: scores of images, or of what the defences of the recipe make of them, against their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import PluginError
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy_models.accuracy import count_correct, count_robust
from charpy_models.checkpoint import State
from charpy_models.defenses import defenses_of, measured, robust_at
from charpy_models.descent import Descent
from charpy_models.recipe import Precision, Recipe
from charpy_models.training import Best, Images, Listener, Progress, Trained, Training

PGD_STEPS = 10
"""Of the attack that tells which epoch of an adversarial training was the best."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The mean loss of scores `(N, K)` for labels, int64 `(N,)`."""


def training_loss(module: nn.Module) -> Loss:
    """What `module` is trained to make small: its own `loss(scores, labels)` if it has one, else the cross-entropy."""
    loss: Loss = getattr(module, "loss", functional.cross_entropy)
    return loss


class ClassifierTraining(Training):
    """A classifier on its way, and the defences that it learns with."""

    def __init__(
        self,
        recipe: Recipe,
        data: Images,
        held_out: Images | None,
        seed: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        super().__init__(recipe, data, held_out, seed, device, precision)
        self.defenses = defenses_of(recipe)
        self.replays = math.prod(defense.replays for defense in self.defenses)
        self.radius = robust_at(self.defenses)
        self.epochs *= max((defense.phases for defense in self.defenses), default=1)
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Fresh weights, drawn from the global generator, and an optimiser that has not moved."""
        self.module = self.fresh()
        self.steps = self.recipe.epochs * self.each * self.replays
        self.descent = Descent(self.recipe, self.module.parameters(), self.steps, self.device, self.precision)
        self.best: Best | None = None

    def run_epoch(self, listen: Listener | None) -> Progress:
        """As of every training; a phase of the defences may begin with it."""
        self._begin_phase()
        return super().run_epoch(listen)

    def _begin_phase(self) -> None:
        """Tell the defences, where a phase begins with the next epoch; after the first, with a fresh network."""
        if self.epoch % self.recipe.epochs:
            return
        phase, before = self.epoch // self.recipe.epochs, None
        if phase:
            before = self.result().module
            self._start_afresh()
        for defense in self.defenses:
            defense.begin(phase, before)

    def learn(self, images: torch.Tensor, labels: torch.Tensor, batch: int) -> torch.Tensor:
        """The steps on these images, one for each replay; their mean loss."""
        losses = [self._step(images, labels, batch * self.replays + replay) for replay in range(self.replays)]
        return torch.stack(losses).mean()

    def _step(self, images: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
        """One step of the optimiser, as the defences want it; the mean loss."""
        done = self.descent.taken / self.steps
        lesson = Lesson(self.module, images, labels, done, number, self.seed, self._scores, training_loss(self.module))
        for defense in self.defenses:
            lesson = replace(lesson, images=_images_for(defense, lesson))
        for defense in self.defenses:
            lesson = replace(lesson, loss=_loss_of(defense, lesson))
        loss = lesson.loss(self._scores(lesson.images), labels)
        self.descent.step(loss)
        for defense in self.defenses:
            defense.learned(lesson)
        return loss.detach()

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        with self.precisely():
            scores: torch.Tensor = self.module(images)
        return scores.float()

    def judge(self) -> float | None:
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
        """What `load` needs to go on from here."""
        return {
            **super().state(),
            **self.descent.state(),
            "best": None if self.best is None else self.best._asdict(),
            "defenses": [defense.state() for defense in self.defenses],
        }

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.descent.load(state)
        self.best = None if state["best"] is None else Best(**state["best"])
        super().load(state)
        for defense, own in zip(self.defenses, state["defenses"], strict=True):
            defense.load(own, self.module)

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
