"""Reads what a run file holds about one model into arrays and running sums; images are passed over, never kept."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Any

import numpy as np

from charpy.analysis.outcomes import Bools, Evidence, Ints
from charpy.checks import largest_level
from charpy.outcome import Outcome
from charpy.records import SampleRow, WitnessRow
from charpy.runfile import RunFile
from charpy.specs import RunSpec, ThreatSpec
from charpy.threat import DISTANCE_TOLERANCE, FIRST_LEVEL, LAST_LEVEL, OWN, Norm, default_levels


@dataclass(frozen=True)
class Population:
    """The S samples of one model: labels `(S,)`, whether its clean answers were valid and right `(S,)`."""

    position: dict[int, int]
    labels: Ints
    valid: Bools
    correct: Bools

    @classmethod
    def of(cls, rows: Sequence[SampleRow]) -> Population:
        """From the sample rows of one model."""
        valid = np.array([row.valid and row.prediction is not None for row in rows], np.bool_)
        right = np.array([row.prediction == row.label for row in rows], np.bool_)
        labels = np.array([row.label for row in rows], np.int64)
        return cls({row.sample: index for index, row in enumerate(rows)}, labels, valid, valid & right)


@dataclass
class NormFindings:
    """What the units of one norm found.

    Attributes:
        last: the largest level that an image of this size has.
        own: the level of each sample, by its number in the run, where each has its own.
        attacked, invalid: (position, th) of each result that is one, and of each that is not.
        reasons: position -> why its first invalid result was invalid.
        to_success: (th, step) -> rows that the attack spent on each sample that it broke.
        cost: (position, th, attack) -> rows spent on the sample under this norm until that witness.
    """

    threat: ThreatSpec
    carry: bool
    last: int = LAST_LEVEL
    own: tuple[int, ...] = ()
    attacked: list[tuple[int, int]] = field(default_factory=list)
    invalid: list[tuple[int, int]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    to_success: defaultdict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    cost: dict[tuple[int, int, str], int] = field(default_factory=dict)
    spent: defaultdict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def search(self) -> bool:
        """Whether the smallest level of each sample was searched."""
        return self.threat.searched

    @property
    def shown(self) -> tuple[int, ...]:
        """The levels that get a row in the report."""
        if self.own:
            return (OWN,)
        levels = self.threat.levels if isinstance(self.threat.levels, tuple) else default_levels(self.threat.norm)
        return tuple(th for th in levels if th <= self.last) or (self.last,)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that get a column of outcomes: of a search also the ends of its range."""
        return tuple(sorted({FIRST_LEVEL, *self.shown, self.last})) if self.search else self.shown


@dataclass(frozen=True)
class LevelCosts:
    """What the witnesses at one level cost and measure: see `ThreatPart`."""

    queries_to_success_median: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_findings(run: RunFile, model: int, spec: RunSpec, population: Population) -> dict[str, NormFindings]:
    """The results of every unit of `model`, by norm, in the order of the spec."""
    shape = tuple(run.meta("dataset")["shape"])
    own = run.meta("own_levels", {})
    found = {
        str(threat.norm): NormFindings(
            threat, spec.carry, largest_level(Norm(threat.norm), shape), tuple(own.get(threat.norm, ()))
        )
        for threat in spec.threats
    }
    for key, attack, row in run.results(model):
        norm, position = found[key.norm], population.position[row.sample]
        # With independent levels, what a sample cost at another level is no part of its cost at this one; in a contest
        # neither is what it cost others.
        level = 0 if norm.search or (norm.carry and not spec.contest) else key.th
        account = (position, level, key.step if spec.contest else 0)
        (norm.invalid if row.outcome is Outcome.INVALID else norm.attacked).append((position, key.th))
        if row.outcome is Outcome.INVALID:
            norm.reasons.setdefault(position, row.reason or "no reason was given")
        if row.outcome is Outcome.BROKEN and row.queries_to_success is not None:
            norm.to_success[key.th, key.step].append(row.queries_to_success)
            total = norm.spent[account] + row.queries_to_success
            norm.cost[position, key.th, attack] = min(total, norm.cost.get((position, key.th, attack), total))
        norm.spent[account] += row.queries
    return found


def evidence_of(
    run: RunFile,
    model: int,
    found: NormFindings,
    population: Population,
    proven: Ints | None = None,
    binding: Ints | None = None,
) -> Evidence:
    """The arrays that `outcomes_of` needs; `proven` and `binding` `(S,)`: see `Evidence`."""
    witnesses = run.witness_distances(model, found.threat.norm)
    return Evidence(
        valid=population.valid,
        correct=population.correct,
        witnesses=(
            np.array([population.position[sample] for sample, _, _ in witnesses], np.int64),
            np.array([th for _, th, _ in witnesses], np.int64),
            np.array([distance for _, _, distance in witnesses], np.float64),
        ),
        invalid=_columns(found.invalid),
        attacked=_columns(found.attacked),
        proven=proven,
        binding=binding,
        own=np.array([found.own[sample] for sample in population.position], np.int64) if found.own else None,
    )


def level_costs(run: RunFile, model: int, found: NormFindings, population: Population) -> dict[int, LevelCosts]:
    """Per shown level: the median cost, and each metric averaged over the nearest witness of each broken sample."""
    costs: defaultdict[int, list[int]] = defaultdict(list)
    values: defaultdict[int, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for position, witnesses in _by_sample(run.witnesses(model, found.threat.norm), population):
        for th in found.shown:
            counted = [w for w in witnesses if _counts_at(w, th, found)]
            if not counted:
                continue
            keys = [(position, witness.th, witness.attack) for witness in counted]
            if known := [found.cost[key] for key in keys if key in found.cost]:
                costs[th].append(min(known))
            for name, value in counted[0].metrics.items():
                if math.isfinite(value):
                    values[th][name].append(value)
    return {
        th: LevelCosts(
            float(median(costs[th])) if costs[th] else None,
            {name: math.fsum(numbers) / len(numbers) for name, numbers in sorted(values[th].items())},
        )
        for th in found.shown
    }


def _counts_at(witness: WitnessRow, th: int, found: NormFindings) -> bool:
    if witness.distance > (found.own[witness.sample] if found.own else th) + DISTANCE_TOLERANCE:
        return False
    return found.carry or found.threat.nested or witness.th == th


def _by_sample(witnesses: Iterator[WitnessRow], population: Population) -> Iterator[tuple[int, list[WitnessRow]]]:
    """(position, its witnesses, nearest first) of the correctly classified samples, one sample in memory at a time."""
    for sample, group in groupby(witnesses, key=lambda witness: witness.sample):
        position = population.position[sample]
        if population.correct[position]:
            yield position, list(group)


def _columns(pairs: Iterable[tuple[Any, Any]]) -> tuple[Ints, Ints]:
    table = np.array(list(pairs), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
