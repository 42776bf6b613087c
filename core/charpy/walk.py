"""The walk of one model under one threat: level by level over shards, attacking what still stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charpy import checks
from charpy.interfaces.attack import Family
from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.executor import Executor
from charpy.levels import LevelSearch
from charpy.outcome import Outcome
from charpy.pixels import as_images
from charpy.plugins import Registry
from charpy.records import UnitKey, UnitRecord
from charpy.runfile import RunFile
from charpy.specs import RunSpec, ThreatSpec
from charpy.subjects import PlannedAttack
from charpy.threat import Access, Norm, ThreatModel
from charpy.unit import Bench, Shard, compute_unit


@dataclass(frozen=True)
class Progress:
    """Where a run stands: units done and planned, the share of the current unit that is settled, what it is."""

    done: int
    planned: int
    share: float
    title: str


@dataclass
class Site:
    """What every walk of a run shares: the spec, the samples, the executor, and how far the run is."""

    spec: RunSpec
    registry: Registry
    data: Dataset
    indices: list[int]
    executor: Executor
    listen: Callable[[Progress], None] | None = None
    done: int = 0
    planned: int = 0

    def shards(self) -> list[list[int]]:
        """Positions in `indices`, in pieces of `spec.shard`."""
        positions = list(range(len(self.indices)))
        return [positions[i : i + self.spec.shard] for i in range(0, len(positions), self.spec.shard)]

    def read(self, positions: Sequence[int]) -> Samples:
        """The samples at these positions of the run."""
        return self.data.read([self.indices[position] for position in positions])

    def tell(self, share: float, title: str) -> None:
        """Report progress."""
        if self.listen is not None:
            self.listen(Progress(self.done, max(self.planned, self.done + 1 if share else self.done), share, title))


@dataclass
class Walk:
    """One model under one threat: the plan, and what is known of each sample so far."""

    site: Site
    run: RunFile
    model: int
    bench: Bench
    access: Access
    threat: ThreatSpec
    attacks: list[PlannedAttack]
    correct: NDArray[np.bool_]
    finished: set[UnitKey]

    def __post_init__(self) -> None:
        self.nearest = np.full(len(self.correct), np.inf)
        self.broken_at: dict[int, set[int]] = {}

    def all(self) -> None:
        """The levels in ascending order, or the search for each sample's smallest one."""
        if isinstance(self.threat.levels, str):
            self._minimal()
            return
        for th, step in plan(self.threat, self.attacks, self.site.spec.carry):
            shards = [(nr, [s for s in shard if self._standing(s, th)]) for nr, shard in enumerate(self.site.shards())]
            self._units([(self._key(th, step, nr), samples) for nr, samples in shards])

    def _minimal(self) -> None:
        last = checks.largest_level(self.threat.norm, self.site.data.shape)
        search = LevelSearch(len(self.correct), last=last)
        positions = np.arange(len(self.correct))
        number = 0
        while True:
            th = np.where(self.correct, search.next(), 0)
            if not th.any():
                return
            for level in sorted(set(th[th > 0].tolist())):
                before = self.nearest.copy()
                self.nearest[positions[th == level]] = np.inf  # a new look: an old, farther witness must not end it
                for step in range(len(self.attacks)):
                    for nr, shard in enumerate(self.site.shards()):
                        samples = [s for s in shard if th[s] == level and self._standing(s, level)]
                        self._units([(self._key(level, step, nr, number), samples)])
                asked = positions[th == level]
                search.tell(asked, np.full(len(asked), level), self.nearest[asked])
                self.nearest = np.minimum(self.nearest, before)
            number += 1

    def _standing(self, sample: int, th: int) -> bool:
        """Whether a sample is worth attacking at a level: correct, and no witness counts there yet."""
        if not self.correct[sample]:
            return False
        if self.site.spec.carry or isinstance(self.threat.levels, str):
            return bool(self.nearest[sample] > th + 1e-6)
        return sample not in self.broken_at.get(th, set())

    def _key(self, th: int, step: int, shard: int, number: int = 0) -> UnitKey:
        return UnitKey(self.model, self.threat.norm, th, step, shard, number)

    def _units(self, units: Sequence[tuple[UnitKey, list[int]]]) -> None:
        """Compute and write those units that have samples and are not in the run file; learn from all of them."""
        fresh = []
        for key, samples in units:
            if key in self.finished:
                self._learn(key, self.run.distances_of(key))
            elif samples:
                fresh.append((key, samples))
        for (key, _), record in self.site.executor.map(self._compute, fresh):
            self.run.write_unit(record)
            self._learn(key, {witness.sample: witness.distance for witness in record.witnesses})
            self._announce(record)
        self.site.done += len(units)
        self.site.tell(0.0, "")

    def _compute(self, unit: tuple[UnitKey, list[int]]) -> UnitRecord:
        key, samples = unit
        planned = self.attacks[key.step]
        piece = self.site.read(samples)
        title = f"{self.site.spec.models[self.model].title}  {key.norm} th={key.th}  {planned.name}"
        threat = ThreatModel.at_level(
            Norm(key.norm),
            key.th,
            goal=self.threat.goal,
            access=min(self.access, planned.attack.access),
            queries=planned.queries or self.threat.queries,
            grid=self.site.spec.grid,
        )
        shard = Shard(samples, as_images(piece.images), piece.labels, piece.ids)
        return compute_unit(key, shard, planned, threat, self.bench, lambda share, _: self.site.tell(share, title))

    def _learn(self, key: UnitKey, found: Mapping[int, float]) -> None:
        for sample, distance in found.items():
            self.nearest[sample] = min(self.nearest[sample], distance)
            self.broken_at.setdefault(key.th, set()).add(sample)

    def _announce(self, record: UnitRecord) -> None:
        counts = {outcome.value: 0 for outcome in Outcome}
        for row in record.results:
            counts[row.outcome] += 1
        self.site.registry.notify(
            "charpy_outcomes",
            unit={**record.key._asdict(), "attack": record.attack, "rows": record.rows, "seconds": record.seconds},
            outcomes=counts,
        )


def plan(threat: ThreatSpec, attacks: Sequence[PlannedAttack], carry: bool) -> list[tuple[int, int]]:
    """`(th, step)` in order; an attack that finds its own radius runs once, at the largest level, for all."""
    if isinstance(threat.levels, str):
        return [(level, step) for level in (1,) * 16 for step in range(len(attacks))]  # an estimate, for progress only
    minimising = {i for i, item in enumerate(attacks) if carry and item.attack.family is not Family.TARGET_DISTORTION}
    once = [(max(threat.levels), step) for step in sorted(minimising)]
    climbing = [(th, step) for th in threat.levels for step in range(len(attacks)) if step not in minimising]
    return once + climbing
