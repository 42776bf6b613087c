"""The contract of defences that are a way to train."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.testing.contract import require, unlike
from charpy.testing.defenses import CLASSES, ContractOnImages


class TrainingDefenseContract(ContractOnImages):
    """What every defence that is a way to train must do, on one lesson of a small network."""

    component: ClassVar[type[TrainingDefense]]
    sort = TrainingDefense

    def lesson(self) -> Lesson:
        """A lesson in the middle of a training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = nn.Sequential(nn.Flatten(), nn.Linear(self.images()[0].numel(), 16), nn.ReLU(), nn.Linear(16, 4))
        labels = torch.arange(len(self.images())) % CLASSES
        return Lesson(module.train(), self.images(), labels, 0.5, 3, 0, module, nn.functional.cross_entropy)

    def begun(self) -> TrainingDefense:
        """A fresh one in its first phase."""
        defense: TrainingDefense = self.make()
        defense.begin(0, None)
        return defense

    def test_learns_from_images(self) -> None:
        """As many as the lesson has, of their shape, float32, finite and in [0, 1]."""
        lesson = self.lesson()
        found = self.begun().images_for(lesson)
        require(found.shape == lesson.images.shape, "not one image for each image", tuple(found.shape))
        require(found.dtype == torch.float32, "images to learn from are not float32", found.dtype)
        require(((found >= 0) & (found <= 1)).all(), "images to learn from leave [0, 1], or hold NaN")

    def test_its_loss_can_be_made_small(self) -> None:
        """One finite number, with a gradient for the network."""
        lesson = self.lesson()
        defense = self.begun()
        scores = lesson.scores(defense.images_for(lesson))
        loss = defense.loss(lesson, scores)
        require(loss.ndim == 0 and bool(loss.isfinite()), "its loss is no finite number", loss)
        require(loss.requires_grad, "its loss has no gradient")

    def test_leaves_the_network_and_the_lesson_alone(self) -> None:
        """Weights, gradients, mode, images and labels are as before."""
        lesson = self.lesson()
        before = copy.deepcopy(lesson.module.state_dict())
        images, labels = lesson.images.clone(), lesson.labels.clone()
        self.begun().images_for(lesson)
        after = lesson.module.state_dict()
        require(all(torch.equal(after[name], value) for name, value in before.items()), "it changes the weights")
        require(all(part.grad is None for part in lesson.module.parameters()), "it leaves gradients in the network")
        require(lesson.module.training, "it leaves the network in eval mode")
        require(torch.equal(lesson.images, images) and torch.equal(lesson.labels, labels), "it writes into the lesson")

    def test_the_same_lesson_gives_the_same_images(self) -> None:
        """Two fresh ones, the global generator seeded alike as the training loop does."""
        found = []
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):
                torch.manual_seed(5)
                found.append(self.begun().images_for(self.lesson()).detach())
        require(torch.equal(*found), "the same lesson gives other images to learn from")

    def test_declares_how_it_trains(self) -> None:
        """Phases and replays of at least 1; a radius, where it has one, above 0."""
        defense = self.make()
        require(defense.phases >= 1, "it has no phase", defense.phases)
        require(defense.replays >= 1, "it takes no step", defense.replays)
        require(defense.radius is None or defense.radius > 0, "its radius is not above 0", defense.radius)

    def test_goes_on_from_its_state(self) -> None:
        """`state` holds plain data, and `load` of it gives the same state."""
        defense, lesson = self.begun(), self.lesson()
        defense.images_for(lesson)
        state = defense.state()
        require(_plain(state), "state holds more than tensors, numbers, texts, and mappings and lists of them")
        other = self.begun()
        other.load(copy.deepcopy(state), lesson.module)
        require(_equal(other.state(), state), "load(state()) gives another state")


def _plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str | int) and _plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(_plain(part) for part in value)
    return value is None or isinstance(value, torch.Tensor | int | float | str | bool)


def _equal(first: object, second: object) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(_equal(a, b) for a, b in zip(first, second, strict=True))
    return not unlike(first, second)
