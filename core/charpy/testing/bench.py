"""A bench for attacks: an oracle over any model, with all that the attack asked and what was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from charpy.differentiation import Gradients, Jacobian
from charpy.engine import QueryEngine, Way
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.model import Model
from charpy.ledger import Candidates
from charpy.oracle import Oracle
from charpy.random import Random, sample_keys
from charpy.threat import Goal, Norm, ThreatModel


@dataclass
class Log:
    """What an attack asked.

    Attributes:
        offered: rows of all calls, answered or not.
        finished: those of them whose sample was finished when they were offered.
        idle: calls made when no sample was worth a query.
        bad: rows that held NaN or infinity.
        answered: `(owner, row)` of every row that the model answered, in order.
    """

    offered: int = 0
    finished: int = 0
    idle: int = 0
    bad: int = 0
    answered: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All answered rows `(M, C, H, W)` in order, and their owners `(M,)`."""
        if not self.answered:
            return torch.zeros(0, 1, 1, 1), torch.zeros(0, dtype=torch.int64)
        return torch.cat([rows for _, rows in self.answered]), torch.cat([owner for owner, _ in self.answered])

    def of(self, sample: int) -> torch.Tensor:
        """The answered rows of one sample, in order."""
        rows, owner = self.rows()
        return rows[owner == sample]

    def digest(self) -> str:
        """SHA-256 of the answered rows: two runs that asked the same have the same."""
        rows, owner = self.rows()
        return hashlib.sha256(rows.numpy().tobytes() + owner.numpy().tobytes()).hexdigest()


class Watched(Oracle):
    """An oracle that notes what it is asked."""

    log: Log

    def scores(self, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """As of an oracle."""
        self._offer(candidates, owner)
        return super().scores(candidates, owner)

    def labels(self, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """As of an oracle."""
        self._offer(candidates, owner)
        return super().labels(candidates, owner)

    def loss_and_gradient(self, candidates: torch.Tensor, owner: torch.Tensor, *rest: Any, **named: Any) -> Gradients:
        """As of an oracle."""
        self._offer(candidates, owner)
        return super().loss_and_gradient(candidates, owner, *rest, **named)

    def jacobian(self, candidates: torch.Tensor, owner: torch.Tensor, classes: torch.Tensor) -> Jacobian:
        """As of an oracle."""
        self._offer(candidates, owner)
        return super().jacobian(candidates, owner, classes)

    def _offer(self, candidates: torch.Tensor, owner: torch.Tensor) -> None:
        active = self.active
        self.log.offered += len(owner)
        self.log.finished += int((~active[owner]).sum())
        self.log.idle += int(len(owner) > 0 and not bool(active.any()))
        if candidates.is_floating_point():
            self.log.bad += int((~candidates.isfinite()).flatten(1).any(1).sum())

    def _saw(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor, keep: bool) -> None:
        self.log.answered.append((owner.clone(), rows.clone().float()))


@dataclass(frozen=True)
class Trial:
    """An attack's result on N samples: what was recorded and returned, rows of the model, the task, all it asked."""

    found: Candidates
    returned: Any
    rows: int
    oracle: Oracle
    task: Task
    log: Log


def trial(
    attack: Attack,
    model: Model,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm,
    radius: float,
    queries: int = 500,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    targets: torch.Tensor | None = None,
    batch: int = 64,
    **threat: Any,
) -> Trial:
    """`attack` on `images` `(N, C, H, W)` of `labels` `(N,)`, as in a run.

    The threat gives what the attack needs and no more; `radius` is in the unit of the norm. `batch` is what the oracle
    says fills the model. The rows of a model that counts them in `rows`, as those of `charpy.testing.linear`, are told.
    """
    goal = Goal.UNTARGETED if targets is None else Goal.TARGETED
    fields: dict[str, Any] = {"queries": queries, "goal": goal, "access": attack.access, **threat}
    given = ThreatModel(norm=norm, radius=radius, **fields)
    way = Way("as given", model.predict, batch, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=model.num_classes or 0)
    minimise = attack.family is not Family.TARGET_DISTORTION
    oracle = Watched(engine, model, images, labels, targets, given, minimise=minimise)
    oracle.log = Log()
    before = getattr(model, "rows", 0)
    names = tuple(ids) if ids is not None else tuple(f"sample {i}" for i in range(len(images)))
    copies = images.clone(), labels.clone(), None if targets is None else targets.clone()
    task = Task(*copies, given, oracle, Random(seed, sample_keys(names)))
    returned = attack.run(task)
    return Trial(oracle.recorded(), returned, getattr(model, "rows", 0) - before, oracle, task, oracle.log)
