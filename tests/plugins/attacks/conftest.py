"""A bench for attacks: an oracle over any model, with what it recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.interfaces.attack import Family, Task
from charpy.ledger import Candidates
from charpy.oracle import Oracle
from charpy.random import Random, sample_keys
from charpy.threat import Goal, Norm, ThreatModel


@dataclass(frozen=True)
class Trial:
    """An attack's result on N samples: what the oracle recorded, the rows the model saw, the oracle itself.

    `asked`: the candidates and owners of every call for a gradient.
    """

    found: Candidates
    rows: int
    oracle: Oracle
    asked: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @property
    def broken(self) -> list[bool]:
        return self.found.found.tolist()

    @property
    def course(self) -> torch.Tensor:
        """`(calls, N, C, H, W)`: where each sample's gradient was asked; NaN where it was not."""
        count = len(self.found.queries)
        nothing = torch.full((count, *self.asked[0][0].shape[1:]), torch.nan)
        return torch.stack([nothing.index_copy(0, owner, rows) for rows, owner in self.asked])


class Watched(Oracle):
    """Notes what it is asked for a gradient."""

    asked: list[tuple[torch.Tensor, torch.Tensor]]

    def loss_and_gradient(self, candidates, owner, *rest, **named):
        """As of an oracle."""
        self.asked.append((candidates.clone(), owner.clone()))
        return super().loss_and_gradient(candidates, owner, *rest, **named)


@pytest.fixture
def attack_with():
    """`attack_with(attack, model, images, norm=, th= or radius=, queries=, seed=, ids=, **threat)` -> Trial.

    The threat gives what the attack needs, and no more; the oracle minimises for attacks that find their own radius.
    """

    def run(
        attack,
        model,
        images,
        *,
        norm=Norm.L0,
        th=1,
        radius=None,
        queries=500,
        seed=0,
        ids=None,
        targets=None,
        labels=None,
        batch=64,
        **rest,
    ):
        goal = Goal.UNTARGETED if targets is None else Goal.TARGETED
        fields = {"queries": queries, "goal": goal, "access": attack.access, **rest}
        given = ThreatModel(norm=norm, radius=radius, **fields) if radius is not None else None
        threat = given or ThreatModel.at_level(norm, th, **fields)
        if labels is None:
            answers = model.predict(images)
            labels = answers if answers.ndim == 1 else answers.argmax(1)
        way = Way("as given", model.predict, batch, 1e-6, invariant=True)
        before = getattr(model, "rows", 0)
        minimise = attack.family is not Family.TARGET_DISTORTION
        engine = QueryEngine(model, model.output, way, way, num_classes=model.num_classes or 0)
        oracle = Watched(engine, model, images, labels, targets, threat, minimise=minimise)
        oracle.asked = []
        names = ids or tuple(f"sample {i}" for i in range(len(images)))
        attack.run(Task(images, labels, targets, threat, oracle, Random(seed, sample_keys(names))))
        return Trial(oracle.recorded(), getattr(model, "rows", 0) - before, oracle, oracle.asked)

    return run
