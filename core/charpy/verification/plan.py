"""Whether every unit is there that the plan asks for, each with the samples that stood then, and no other.

The plan is followed as the run followed it, by the walk itself: what a unit attacks depends on the witnesses of those
before it. The attacks take no part; the run file has their names and families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch

from charpy.errors import DataError
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.executor import Executor
from charpy.planned import PlannedAttack
from charpy.plugins import Registry
from charpy.records import UnitKey
from charpy.runfile import RunFile
from charpy.site import Site
from charpy.specs import RunSpec
from charpy.threat import Access, Norm
from charpy.unit import Bench
from charpy.verification.document import Check, Tally
from charpy.walk import Walk


class _Attack(Attack):
    """An attack of which only the family is known."""

    def run(self, task: Task) -> torch.Tensor | None:
        """Nothing is attacked here."""
        raise NotImplementedError


class _Data(Dataset):
    """A dataset of which only the number and shape of its samples are known."""

    def __init__(self, samples: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.samples, self.shape, self.name, self.class_names = samples, shape, "", ()

    def __len__(self) -> int:
        return self.samples

    def read(self, indices: Sequence[int]) -> Samples:
        """Nothing is read here."""
        raise DataError("the samples are not known")

    def fingerprint(self) -> str:
        """Not known."""
        return ""


class _EndOfRunError(Exception):
    """An unfinished run has come this far."""


class _Unit(NamedTuple):
    """What a unit says of itself."""

    number: int
    attack: str
    kind: str
    goal: str
    queries: int


class _Follow(Walk):
    """Compares instead of computing."""

    tally: Tally
    units: Mapping[UnitKey, _Unit]
    seen: set[UnitKey]
    whole: bool

    def _units(self, units: Sequence[tuple[UnitKey, list[int]]]) -> None:
        missing = False
        for key, samples in units:
            if key in self.units:
                self.seen.add(key)
                self._compare(key, samples)
                self._learn(key, self.run.distances_of(key))
            elif samples:
                missing = True
                if self.whole:
                    self.tally.wrong(told(key), "no such unit", f"{len(samples)} samples attacked")
        if missing and not self.whole:
            raise _EndOfRunError

    def _compare(self, key: UnitKey, samples: list[int]) -> None:
        unit = self.units[key]
        planned, record = self.attacks[key.step], f"unit {unit.number}: {told(key)}"
        found = self.run.audit().samples_of(unit.number)
        if (unit.attack, unit.kind) != (planned.name, planned.kind):
            self.tally.wrong(record, f"by {unit.attack} ({unit.kind})", f"by {planned.name} ({planned.kind})")
        elif unit.goal != self.threat.goal or unit.queries > self._allowed(planned):
            allowed = self._allowed(planned)
            self.tally.wrong(
                record, f"{unit.goal}, {unit.queries} queries", f"{self.threat.goal}, at most {allowed} queries"
            )
        elif found != samples:
            more, less = sorted(set(found) - set(samples)), sorted(set(samples) - set(found))
            self.tally.wrong(record, f"results of {_few(more)} too many, of {_few(less)} missing", f"{len(samples)}")
        else:
            self.tally.right()

    def _allowed(self, planned: PlannedAttack) -> int:
        """The most that an attack may ask about one sample."""
        battery = () if isinstance(self.threat.battery, str) else self.threat.battery
        own = [step.queries for step in battery if (step.name or step.kind, step.kind) == (planned.name, planned.kind)]
        return max((queries or self.threat.queries for queries in own), default=self.threat.queries)


def check_plan(run: RunFile, spec: RunSpec, registry: Registry) -> Check:
    """Follow the plan of every model under every threat."""
    tally = Tally("units as planned")
    plans, dataset = run.meta("plan"), run.meta("dataset")
    if dataset is None:
        tally.missing("units: nothing was done yet")
        return tally.check()
    if plans is None:
        tally.missing("units: the run file is of a version that did not store the plan")
        return tally.check()
    if (stored := len(run.samples(0))) != dataset["samples"]:  # which `check_records` tells
        tally.missing(f"units: the data has {dataset['samples']} samples, and the file {stored}")
        return tally.check()
    channels, height, width = dataset["shape"]
    data = _Data(dataset["samples"], (channels, height, width))
    nobody = cast(Executor, None)  # nothing is computed
    site = Site(spec, registry, data, list(range(len(data))), nobody)
    site.own = {norm: tuple(levels) for norm, levels in run.meta("own_levels", {}).items()}
    units = {
        key: _Unit(number, attack, kind, detail.get("goal", ""), detail.get("queries", 0))
        for number, key, attack, kind, detail in run.audit().units()
    }
    seen: set[UnitKey] = set()
    try:
        for model in range(len(spec.models)):
            _follow(run, site, model, plans[model], units, seen, tally)
    except _EndOfRunError:
        tally.note("followed as far as the run has come")
    except (KeyError, IndexError, ValueError, TypeError) as cause:
        tally.wrong("meta (plan)", f"{type(cause).__name__}: {cause}", "attacks and families for each model and norm")
        return tally.check()
    for key in sorted(units.keys() - seen):
        tally.wrong(f"unit {units[key].number}: {told(key)}", "a unit that nothing plans", "no such unit")
    return tally.check()


def _follow(
    run: RunFile,
    site: Site,
    model: int,
    plan: dict[str, list[dict[str, str]]],
    units: Mapping[UnitKey, _Unit],
    seen: set[UnitKey],
    tally: Tally,
) -> None:
    rows = run.samples(model)
    if not rows and not run.meta("finished", False):
        raise _EndOfRunError
    if len(rows) != len(site.indices):
        tally.wrong(f"samples (model {model})", len(rows), len(site.indices))
        return
    correct = np.array([row.valid and row.prediction == row.label for row in rows])
    for threat in site.spec.threats:
        attacks = [_recorded(row) for row in plan[threat.norm.value]]
        if not isinstance(threat.battery, str) and not set(_names(attacks)) <= {
            (step.name or step.kind, step.kind) for step in threat.battery
        }:
            tally.wrong(f"meta (plan): model {model}, {threat.norm}", _names(attacks), "attacks of the spec")
        nothing = cast(Bench, None)
        walk = _Follow(site, run, model, nothing, Access.LABELS, threat, attacks, correct, set(units))
        walk.tally, walk.units, walk.seen = tally, units, seen
        walk.whole = bool(run.meta("finished", False))
        walk.all()


def _recorded(row: dict[str, str]) -> PlannedAttack:
    family = Family(row["family"])
    attack = type("_OfFamily", (_Attack,), {"family": family, "norms": frozenset(Norm), "access": Access.LABELS})()
    return PlannedAttack(row["attack"], row["kind"], attack, None)


def _names(attacks: Sequence[PlannedAttack]) -> list[tuple[str, str]]:
    return [(item.name, item.kind) for item in attacks]


def told(key: UnitKey) -> str:
    """A unit in words."""
    probe = f", probe {key.round}" if key.round else ""
    return f"model {key.model}, {key.norm} th={key.th}, attack {key.step + 1}, shard {key.shard}{probe}"


def _few(samples: list[int]) -> str:
    shown = ", ".join(map(str, samples[:5]))
    return f"samples {shown}{', ...' if len(samples) > 5 else ''}" if samples else "none"
