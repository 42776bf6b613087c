"""What each single attack of a run did, apart from the others of its battery."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from charpy.analysis.comparison.document import AttackCellPart
from charpy.analysis.comparison.entries import Entry
from charpy.analysis.comparison.rates import rate
from charpy.analysis.findings import NormFindings
from charpy.analysis.outcomes import Evidence, Floats, Outcomes, outcomes_of
from charpy.outcome import Outcome
from charpy.pixels import distances, unpack
from charpy.threat import DISTANCE_TOLERANCE, Grid, Norm

BATCH = 256
"""Pairs of images measured at once."""


@dataclass(frozen=True)
class Attempt:
    """One attack of a battery against one row of the comparison, at the levels that the report shows.

    Attributes:
        label: its name, told apart from others of that name by what differs.
        outcomes: `(T, L)`, as if no other attack had run: what it was not asked about is `unattacked`.
        independent: whether no other attack chose what it faced: it is the first of its battery, and in a search for
            smallest levels the only one.
        complete: per level, whether it faced every sample that the model gets right. A later attack of a battery may
            only see what those before it left standing.
        mean_l2: per level, the mean L2 on the 0..255 scale of the nearest witness of each sample that it broke.
    """

    entry: Entry
    norm: str
    step: int
    label: str
    kind: str
    outcomes: Outcomes
    independent: bool
    complete: Mapping[int, bool]
    mean_l2: Mapping[int, float | None]


@dataclass
class _Trace:
    """Everything that one attack left in the run file; parallel lists."""

    name: str = ""
    kind: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    attacked: list[tuple[int, int]] = field(default_factory=list)
    invalid: list[tuple[int, int]] = field(default_factory=list)
    witnesses: list[tuple[int, int, float, float]] = field(default_factory=list)  # row, th, distance, L2


def read_attempts(entries: Sequence[Entry]) -> tuple[Attempt, ...]:
    """Every attack of every row, by row, norm and step."""
    traces = [
        (entry, norm, step, trace)
        for entry in entries
        for (norm, step), trace in sorted(_traces(entry).items(), key=lambda item: _order(entry, item[0]))
    ]
    labels = _labels([(entry.title, norm, trace) for entry, norm, _, trace in traces])
    steps = defaultdict(set)
    for entry, norm, step, _ in traces:
        steps[entry.title, norm].add(step)
    return tuple(
        _attempt(entry, norm, step, trace, label, alone=len(steps[entry.title, norm]) == 1)
        for (entry, norm, step, trace), label in zip(traces, labels, strict=True)
    )


def attack_cells(attempts: Sequence[Attempt]) -> tuple[AttackCellPart, ...]:
    """Success and mean L2 of every attack at every level where it faced anything (Kotyan & Vargas 2020, Table IV)."""
    cells = []
    for attempt in attempts:
        broken, held = (attempt.outcomes.counts(o) for o in (Outcome.BROKEN, Outcome.HELD))
        reached = attempt.entry.reached(attempt.norm)
        for column, th in enumerate(attempt.outcomes.levels):
            if th not in reached or not broken[column] + held[column]:
                continue
            cells.append(
                AttackCellPart(
                    entry=attempt.entry.title,
                    norm=attempt.norm,
                    th=th,
                    attack=attempt.label,
                    kind=attempt.kind,
                    complete=attempt.complete[th],
                    success=rate(broken[column], broken[column] + held[column]),
                    mean_l2=attempt.mean_l2[th],
                )
            )
    return tuple(cells)


def _order(entry: Entry, key: tuple[str, int]) -> tuple[int, int]:
    return list(entry.found).index(key[0]), key[1]


def _traces(entry: Entry) -> dict[tuple[str, int], _Trace]:
    """By norm and step."""
    traces: defaultdict[tuple[str, int], _Trace] = defaultdict(_Trace)
    for unit in entry.run.units(entry.index):
        trace, detail = traces[unit["norm"], unit["step"]], unit["detail"]
        trace.name, trace.kind = unit["attack"], unit["kind"]
        trace.facts = {**detail.get("params", {}), "queries": detail.get("queries")}
    for key, _, result in entry.run.results(entry.index):
        if (row := entry.samples.get(result.sample)) is not None:
            trace = traces[key.norm, key.step]
            invalid = result.outcome is Outcome.INVALID
            (trace.invalid if invalid else trace.attacked).append((row, key.th))
    for norm, step, witness in _measured(entry):
        traces[norm, step].witnesses.append(witness)
    return dict(traces)


def _measured(entry: Entry) -> Iterator[tuple[str, int, tuple[int, int, float, float]]]:
    """(norm, step, (row, th, distance, L2)) of every witness, measured in batches and never kept."""
    shape, grid = entry.assessment.dataset.shape, Grid(entry.assessment.dataset.grid)
    waiting: list[tuple[str, int, int, int, float]] = []
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def measured() -> Iterator[tuple[str, int, tuple[int, int, float, float]]]:
        if not pairs:
            return
        originals, images = (torch.stack(side) for side in zip(*pairs, strict=True))
        lengths = distances(Norm.L2, originals, images).tolist()
        for (norm, step, row, th, distance), l2 in zip(waiting, lengths, strict=True):
            yield norm, step, (row, th, distance, l2)
        waiting.clear()
        pairs.clear()

    for witness in entry.run.witnesses(entry.index):
        if (row := entry.samples.get(witness.sample)) is None:
            continue
        waiting.append((witness.norm, witness.step, row, witness.th, witness.distance))
        pairs.append((unpack(entry.run.original(witness.sample), shape, grid), unpack(witness.image, shape, grid)))
        if len(pairs) == BATCH:
            yield from measured()
    yield from measured()


def _attempt(entry: Entry, norm: str, step: int, trace: _Trace, label: str, *, alone: bool) -> Attempt:
    found = entry.found[norm]
    whole = entry.evidence[norm]
    table = np.array(trace.witnesses, np.float64).reshape(-1, 4)
    row, th, distance, l2 = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3]
    invalid, attacked = (np.array(pairs, np.int64).reshape(-1, 2) for pairs in (trace.invalid, trace.attacked))
    evidence = Evidence(
        valid=whole.valid,
        correct=whole.correct,
        witnesses=(row, th, distance),
        invalid=(invalid[:, 0], invalid[:, 1]),
        attacked=(attacked[:, 0], attacked[:, 1]),
        own=whole.own,
    )
    outcomes = outcomes_of(norm, found.levels, evidence, carry=found.carry, search=found.search).at(found.shown)
    faced = ~outcomes.unattacked | ~entry.correct[:, None]
    # A search asks a later attack only where an earlier one failed, at levels that no matrix shows.
    whole_battery = (alone or not found.search) and (entry.finished or not found.search)
    complete = [bool(column.all()) and whole_battery for column in faced.T]
    return Attempt(
        entry=entry,
        norm=norm,
        step=step,
        label=label,
        kind=trace.kind,
        outcomes=outcomes,
        independent=step == 0 and (alone or not found.search),
        complete={level: complete[column] for column, level in enumerate(outcomes.levels)},
        mean_l2={level: _mean_l2(level, row, th, distance, l2, found, evidence) for level in outcomes.levels},
    )


def _mean_l2(
    level: int, row: Any, th: Any, distance: Floats, l2: Floats, found: NormFindings, evidence: Evidence
) -> float | None:
    """Over the samples with a witness that counts at `level`: the L2 of the nearest of them."""
    limit = level if evidence.own is None else evidence.own[row]
    counts = (distance <= limit + DISTANCE_TOLERANCE) & evidence.correct[row]
    if not (found.carry or found.threat.nested):
        counts &= th == level
    order = np.lexsort((l2[counts], distance[counts], row[counts]))
    _, first = np.unique(row[counts][order], return_index=True)
    nearest = l2[counts][order][first]
    return float(nearest.mean()) if len(nearest) else None


def _labels(traces: Sequence[tuple[str, str, _Trace]]) -> list[str]:
    """The name of each attack, with the parameters in which those of its name and norm differ; a number if none does.

    `traces` are (row of the comparison, norm, trace).
    """
    same: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for _, norm, trace in traces:
        same[norm, trace.name].append(trace.facts)
    labels: list[str] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for entry, norm, trace in traces:
        others = same[norm, trace.name]
        keys = dict.fromkeys(key for facts in others for key in facts)
        differing = [key for key in keys if len({str(facts.get(key)) for facts in others}) > 1]
        told = ", ".join(f"{key} {trace.facts.get(key, 'none')}" for key in differing)
        label = f"{trace.name} ({told})" if told else trace.name
        seen[entry, norm, label] += 1
        number = seen[entry, norm, label]
        labels.append(label if number == 1 else f"{label} #{number}")
    return labels
