"""Defensive distillation (Papernot, McDaniel, Wu, Jha & Swami 2016)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Lesson, TrainingDefense

PAPERNOT = "Papernot et al. 2016, Distillation as a defense to adversarial perturbations against deep neural networks"


class Distillation(TrainingDefense):
    """A teacher learns the labels at temperature T, then a student of its architecture its soft labels, also at T.

    Both are trained by the whole recipe, so it takes twice the epochs. Teacher: CE(softmax(z / T), label); student:
    CE(softmax(z / T), softmax(z_teacher / T)), without Hinton's factor T^2: gradients shrink with T (section IV). The
    student is used at T = 1, where its scores are about T times as large as usual: gradients of its loss vanish, which
    hides them and makes nothing robust (Carlini & Wagner 2017).
    """

    phases = 2
    replaces_loss = True

    class Params(BaseParams):
        """How soft."""

        temperature: float = param(20.0, gt=0, description="T, of teacher and student", source=PAPERNOT + ", section V")

    def __init__(self, params: Params | None = None) -> None:
        super().__init__(params)
        self._teacher: torch.nn.Module | None = None

    def begin(self, phase: int, before: torch.nn.Module | None) -> None:
        """The first phase trains the teacher, the second the student."""
        self._teacher = None if before is None else _frozen(before)

    def loss(self, lesson: Lesson, scores: torch.Tensor) -> torch.Tensor:
        """The cross-entropy at T, with the labels or with the teacher's answers."""
        temperature = self.params.temperature
        truth = lesson.labels if self._teacher is None else soft_labels(self._teacher, lesson.images, temperature)
        return functional.cross_entropy(scores / temperature, truth)

    def state(self) -> dict[str, Any]:
        """The teacher's weights."""
        return {} if self._teacher is None else {"teacher": self._teacher.state_dict()}

    def load(self, state: dict[str, Any], module: torch.nn.Module) -> None:
        """Go on with that teacher."""
        if "teacher" in state:
            self._teacher = _frozen(module)
            self._teacher.load_state_dict(state["teacher"])


@torch.no_grad()
def soft_labels(teacher: torch.nn.Module, images: torch.Tensor, temperature: float) -> torch.Tensor:
    """float32 `(N, K)`: softmax(z / temperature) of the teacher's scores z of `images` `(N, C, H, W)`."""
    scores: torch.Tensor = teacher(images)
    return (scores.float() / temperature).softmax(1)


def _frozen(module: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(module).eval().requires_grad_(False)
