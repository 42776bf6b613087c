"""The attack contract: an attack proposes images; the oracle counts and records, the judge decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from charpy.interfaces.component import Component
from charpy.threat import Access, Goal, Norm, ThreatModel

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.dataset import Samples
    from charpy.oracle import Oracle
    from charpy.random import Random


class Family(StrEnum):
    """What an attack optimises (Zhang et al. 2019, section 2).

    A target-distortion attack is given a radius. The other two find their own: one run fills every level.
    """

    TARGET_DISTORTION = "target distortion"
    TARGET_SUCCESS = "target success"
    TARGET_OPTIMALITY = "target optimality"


@dataclass(frozen=True)
class Task:
    """One piece of work for an attack: N correctly classified samples under one threat model.

    Attributes:
        images: float32 `(N, C, H, W)` in [0, 1], on the oracle's device.
        labels: int64 `(N,)`, the true classes.
        targets: int64 `(N,)` for a targeted threat, otherwise None.
        threat: norm, radius, goal, budget and grid.
        oracle: the only way to the model.
        random: the only source of randomness, keyed per sample.
        notes: figures that the attack leaves with its unit, by name, such as how well a projection did; no outcome
            follows from them.
    """

    images: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor | None
    threat: ThreatModel
    oracle: Oracle
    random: Random
    notes: dict[str, float] = field(default_factory=dict)

    def margins(self, scores: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """`(M,)` margins of `scores` `(M, K)` of the samples `owner` `(M,)`: below 0 where the goal is reached."""
        from charpy.losses import margin

        return margin(scores, self.labels[owner], None if self.targets is None else self.targets[owner])


class Attack(Component, ABC):
    """Searches for adversarial images by asking an oracle.

    An attack never clips for the judge, never counts its queries and never scores itself: every image that it shows
    the oracle and that is misclassified inside the threat model is recorded there.
    """

    norms: ClassVar[frozenset[Norm]]
    access: ClassVar[Access]
    family: ClassVar[Family] = Family.TARGET_DISTORTION
    goals: ClassVar[frozenset[Goal]] = frozenset(Goal)
    source: ClassVar[str] = ""
    """Who published it: authors, year, title."""

    def fingerprint(self) -> Mapping[str, str]:
        """What the attack takes from elsewhere (another model, a run file), as name -> digest or value.

        It is part of a run's identity; where an attack has one, parameters that only say where that lies are not.
        """
        return {}

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Refuse a run that the attack could do nothing in, before anything is written.

        Called once on every attack of a run, in each process that makes one, so that it may also keep what it needs of
        the samples. `samples` are all those of the run, each piece read when it is asked for.
        """

    @abstractmethod
    def run(self, task: Task) -> torch.Tensor | None:
        """Attack every sample of `task`.

        May return `(N, C, H, W)` images that it claims to be adversarial. A claim is not believed: the judge checks
        each one, and a false claim is reported under the attack's name. Returning None is the normal case.
        """


@dataclass(frozen=True)
class Step:
    """One attack of a battery: the kind, its parameters and, if it has its own, its query budget per sample."""

    kind: str
    params: dict[str, Any]
    queries: int | None = None


class Battery(Component, ABC):
    """An ordered list of attacks for one norm; each runs only on what the ones before it left standing."""

    @abstractmethod
    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """The attacks for `norm` against a model that gives `access`; empty when there is none."""
