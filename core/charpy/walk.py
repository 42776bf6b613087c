"""The walk of one model under one threat: attack by attack over levels and shards, on what still stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy import checks
from charpy.interfaces.attack import Family
from charpy.interfaces.executor import Lost
from charpy.levels import LevelSearch
from charpy.outcome import Outcome
from charpy.planned import PlannedAttack
from charpy.planted import Drill
from charpy.records import UnitKey, UnitRecord
from charpy.runfile import RunFile
from charpy.site import Site
from charpy.specs import RunSpec, ThreatSpec
from charpy.stages import Stage
from charpy.station import Station
from charpy.threat import DEFAULT_LEVELS, DISTANCE_TOLERANCE, DUAL, FIRST_LEVEL, OWN, Access, Norm
from charpy.unit import Bench, drill_attack


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
        own = self.site.own.get(self.threat.norm)
        self.own = None if own is None else np.array(own, np.int64)
        self.nearest = np.full(len(self.correct), np.inf)
        self.broken_at: dict[int, set[int]] = {}
        self.station = Station(self.site, self.model, self.bench, self.access, self.threat, self.attacks)

    def all(self) -> None:
        """Attack after attack over the levels, or the search for each sample's smallest one."""
        if self.threat.searched:
            self._minimal()
            return
        once, least = own_radius(self.threat, self.attacks, self.site.spec), min(levels_of(self.threat, self.site))
        for th, step in plan(self.threat, self.attacks, self.site):
            if self.own is not None:
                self._at(th, step, self._all_standing_in_their_own(None if step in once else th))
            else:
                # What finds its own radius is worth running on all that some level still lacks.
                self._at(th, step, self._all_standing(least if step in once else th))

    def _minimal(self) -> None:
        """Attacks that find their own radius run once, at the largest level; the others search below what these found.

        A sample that none of those breaks is searched from the first level on: that they failed at the largest level
        says nothing of what the others can do.
        """
        last = checks.largest_level(self.threat.norm, self.site.data.shape)
        search = LevelSearch(len(self.correct), last=last)
        positions = np.arange(len(self.correct))
        once = own_radius(self.threat, self.attacks, self.site.spec)
        for step in once:
            self._at(last, step, self._all_standing(FIRST_LEVEL))
        found = positions[np.isfinite(self.nearest)]
        search.tell(found, np.full(len(found), last), self.nearest[found])
        steps = [step for step in range(len(self.attacks)) if step not in once]
        number = 0
        while steps:
            th = np.where(self.correct, search.next(), 0)
            if not th.any():
                return
            for level in sorted(set(th[th > 0].tolist())):
                before = self.nearest.copy()
                self.nearest[positions[th == level]] = np.inf  # a new look: an old, farther witness must not end it
                for step in steps:
                    standing = self._all_standing(level)
                    self._at(level, step, [standing[s] and bool(th[s] == level) for s in positions], number)
                asked = positions[th == level]
                search.tell(asked, np.full(len(asked), level), self.nearest[asked])
                self.nearest = np.minimum(self.nearest, before)
            number += 1

    def _at(self, th: int, step: int, wanted: Sequence[bool], number: int = 0) -> None:
        """One attack at one level on the samples that are `wanted` `(S,)`, shard by shard."""
        shards = [(nr, [s for s in shard if wanted[s]]) for nr, shard in enumerate(self.site.shards())]
        self._units([(self._key(th, step, nr, number), samples) for nr, samples in shards])

    def _all_standing_in_their_own(self, th: int | None) -> list[bool]:
        """Those without a witness at their own level, if that is `th` or that is None."""
        own = np.zeros_like(self.correct, np.int64) if self.own is None else self.own
        wanted = self.correct & (own > OWN) & (self.nearest > own + DISTANCE_TOLERANCE)
        return [bool(want) for want in (wanted if th is None else wanted & (own == th))]

    def _all_standing(self, th: int) -> list[bool]:
        return [self._standing(sample, th) for sample in range(len(self.correct))]

    def _standing(self, sample: int, th: int) -> bool:
        """Whether a sample is worth attacking at a level: correct, and (but in a contest) without a witness there."""
        if not self.correct[sample] or self.site.spec.contest:
            return bool(self.correct[sample])
        if self.site.spec.carry or self.threat.nested:
            return bool(self.nearest[sample] > th + DISTANCE_TOLERANCE)
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
        for unit, outcome in self.site.executor.map(self.station, fresh):
            key, record = unit[0], self.station.lost(unit, outcome.why) if isinstance(outcome, Lost) else outcome
            self.run.write_unit(record)
            self._learn(key, {witness.sample: witness.distance for witness in record.witnesses})
            self._announce(record)
        self.site.done += len(units)
        self.site.tell(0.0, "")

    def drills(self, samples: int) -> list[dict[str, Any]]:
        """How each attack does on the first `samples` correct ones where adversarial examples are planted, as rows.

        The attack that asks for most, the first of them, is also tried without any bound. Without a ball there is no
        edge to plant examples at.
        """
        chosen = np.flatnonzero(self.correct)[:samples].tolist()
        if not chosen or self.threat.norm is Norm.UNRESTRICTED:
            return []
        largest = min(max(DEFAULT_LEVELS), checks.largest_level(self.threat.norm, self.site.data.shape))
        th = largest if self.threat.searched else max(levels_of(self.threat, self.site))
        most = max(planned.attack.access for planned in self.attacks)
        unbounded = next(step for step, planned in enumerate(self.attacks) if planned.attack.access == most)
        rows = []
        for step, planned in enumerate(self.attacks):
            title, threat = (
                f"{self.station.title(th, planned)} on planted examples",
                self.station.threat_at(th, planned),
            )
            self.site.tell(0.0, title)
            if why := self.site.watch.enter(Stage("drill", title, (self.model, self.threat.norm, step))):
                done = Drill(failure=why)
            else:
                done = drill_attack(
                    self.station.shard_of(chosen), planned, threat, self.bench, unbounded=step == unbounded
                )
            named = {"model": self.model, "norm": self.threat.norm.value, "th": th, "step": step}
            rows.append({**named, "attack": planned.name, "access": planned.attack.access.name, **asdict(done)})
        return rows

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


def own_radius(threat: ThreatSpec, attacks: Sequence[PlannedAttack], spec: RunSpec) -> list[int]:
    """The steps of the attacks that find their own radius: one run fills every level where levels are nested."""
    nested = spec.carry or threat.nested
    return [i for i, item in enumerate(attacks) if nested and item.attack.family is not Family.TARGET_DISTORTION]


def levels_of(threat: ThreatSpec, site: Site) -> tuple[int, ...]:
    """The levels at which anything is done, at least one: those given, or those that samples have of their own."""
    own = site.own.get(threat.norm, ())
    given = threat.levels if isinstance(threat.levels, tuple) else tuple(sorted(set(own) - {OWN}))
    return given or (FIRST_LEVEL,)


def plan(threat: ThreatSpec, attacks: Sequence[PlannedAttack], site: Site) -> list[tuple[int, int]]:
    """`(th, step)` in the order of the battery: each attack climbs the levels on what those before it left standing, or
    in a contest on all.

    One that finds its own radius runs once instead, at the largest level. Of a search for the smallest levels only the
    length means something: an estimate, for progress.
    """
    once = own_radius(threat, attacks, site.spec)
    probes = (FIRST_LEVEL,) * (16 if threat.norm in DUAL else 32)
    levels = probes if threat.searched else levels_of(threat, site)
    return [(th, step) for step in range(len(attacks)) for th in ((max(levels),) if step in once else levels)]
