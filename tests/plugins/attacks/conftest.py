"""A bench for attacks: an oracle over any model, with what it recorded."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from charpy.engine import QueryEngine, Way
from charpy.interfaces.attack import Task
from charpy.oracle import Candidates, Oracle
from charpy.random import Random, sample_keys
from charpy.threat import Access, Goal, Norm, ThreatModel


@dataclass(frozen=True)
class Trial:
    """An attack's result on N samples: what the oracle recorded, the rows the model saw, the oracle itself."""

    found: Candidates
    rows: int
    oracle: Oracle

    @property
    def broken(self) -> list[bool]:
        return self.found.found.tolist()


@pytest.fixture
def attack_with():
    """`attack_with(attack, model, images, norm=, th=, queries=, seed=, ids=, **threat)` -> Trial."""

    def run(
        attack, model, images, *, norm=Norm.L0, th=1, queries=500, seed=0, ids=None, targets=None, labels=None, **rest
    ):
        goal = Goal.UNTARGETED if targets is None else Goal.TARGETED
        threat = ThreatModel.at_level(norm, th, queries=queries, goal=goal, access=Access.SCORES, **rest)
        if labels is None:
            labels = model.predict(images).argmax(1)
        way = Way("as given", model.predict, 64, 1e-6, invariant=True)
        before = getattr(model, "rows", 0)
        oracle = Oracle(QueryEngine(model, model.output, way, way), model, images, labels, targets, threat)
        names = ids or tuple(f"sample {i}" for i in range(len(images)))
        attack.run(Task(images, labels, targets, threat, oracle, Random(seed, sample_keys(names))))
        return Trial(oracle.recorded(), getattr(model, "rows", 0) - before, oracle)

    return run
