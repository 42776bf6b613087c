"""How the contract of attacks tries one: on a linear model whose robustness is known exactly."""

from __future__ import annotations

from typing import Any, ClassVar
from unittest import SkipTest

import torch

from charpy.interfaces.attack import Attack
from charpy.interfaces.dataset import Samples
from charpy.interfaces.model import Model, Output
from charpy.testing.bench import Trial, trial
from charpy.testing.contract import Contract
from charpy.testing.linear import LinearClassifier
from charpy.threat import BALLS, Access, Goal, Norm

COUNT, CLASSES, SHAPE = 6, 5, (3, 5, 5)


class AttackTrials(Contract):
    """The problem that an attack is tried on, and trials of it.

    Attributes:
        usual: budget per sample where nothing else is said.
    """

    component: ClassVar[type[Attack]]
    sort = Attack
    usual: ClassVar[int] = 100

    def prepared(self, **changes: Any) -> Attack:
        """A fresh attack that has seen the samples of its run."""
        attack: Attack = self.make(**changes)
        _, images, labels = self.problem()
        attack.prepare(self.norms()[0], Goal.UNTARGETED, [Samples(images, labels, ids_of(COUNT))])
        return attack

    def norms(self) -> list[Norm]:
        """Those of the attack that have a ball, in a fixed order."""
        norms = [norm for norm in BALLS if norm in self.make().norms]
        if not norms:
            raise SkipTest("none of its norms has a ball")
        return norms

    def problem(self, *, output: Output = Output.LOGITS) -> tuple[LinearClassifier, torch.Tensor, torch.Tensor]:
        """A linear classifier of 5 classes on 3 x 5 x 5 images, samples some way from its boundaries, their labels."""
        generator = torch.Generator().manual_seed(7)
        weight = torch.randn(CLASSES, *SHAPE, generator=generator)
        labels = torch.arange(COUNT) % CLASSES
        noise = torch.randn(COUNT, *SHAPE, generator=generator) * 0.1
        images = (0.5 + noise + 0.1 * weight[labels]).clamp(0.1, 0.9).mul(255).round().div(255)
        bias = -0.5 * weight.flatten(1).sum(1)  # so that grey lies on every boundary
        if output is not Output.LABELS and self.make().access is Access.LABELS:
            output = Output.LABELS
        return LinearClassifier(weight, bias, output), images, labels

    def truth(self) -> LinearClassifier:
        """The classifier of `problem`, with its scores."""
        model, _, _ = self.problem()
        return LinearClassifier(model.weight, model.bias)

    def radius(self, norm: Norm) -> float:
        """Where about half of the samples can be broken."""
        _, images, labels = self.problem()
        middle = float(self.truth().smallest(norm, images, labels).median())
        return float(int(middle + 0.5)) if norm is Norm.L0 else middle

    def attacked(self, norm: Norm, rows: Any = slice(None), *, attack: Attack | None = None, **named: Any) -> Trial:
        """A trial on the samples `rows` of `problem`, of `usual` queries at `radius` if nothing else is said."""
        model, images, labels = self.problem()
        model = named.pop("model", model)
        ids = [ids_of(COUNT)[i] for i in torch.arange(COUNT)[rows].tolist()]
        named = {"radius": self.radius(norm), "queries": self.usual, **named}
        if (targets := named.pop("targets", None)) is not None:
            named["targets"] = targets[rows]
        return trial(attack or self.prepared(), model, images[rows], labels[rows], norm=norm, ids=ids, **named)


class Still(Model):
    """Answers class 2 to everything, as the model that it stands for would."""

    num_classes = CLASSES

    def __init__(self, model: LinearClassifier) -> None:
        super().__init__()
        self.access, self.output, self.input_shape = model.access, model.output, model.input_shape

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """The same answer for every row, connected to the images."""
        scores = torch.nn.functional.one_hot(torch.full((len(images),), 2), CLASSES).float()
        return scores.argmax(1) if self.output is Output.LABELS else scores + 0 * images.flatten(1).sum(1, keepdim=True)

    def fingerprint(self) -> dict[str, str]:
        """It has no weights."""
        return {"still": "1"}


def ids_of(count: int) -> tuple[str, ...]:
    """Names of so many samples."""
    return tuple(f"sample {i}" for i in range(count))
