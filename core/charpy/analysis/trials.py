"""How each attack of a run fared where it ran: its successes in rows, and the course of its search on what it left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from charpy.outcome import Outcome
from charpy.records import ResultRow, UnitKey
from charpy.threat import DISTANCE_TOLERANCE

if TYPE_CHECKING:
    from charpy.analysis.findings import NormFindings

TRANSFER = "transfer"
"""The kind of the attack that only shows images made for another model."""


@dataclass(frozen=True)
class Trial:
    """One attack at one level of one norm, over all shards; of a search for smallest levels, over all levels.

    Attributes:
        th: the level it ran at; None for a search, or where each sample has a level of its own.
        covers: the levels that it is evidence about: an attack that finds its own radius runs once, for all of them.
        white: it asked for gradients.
        broken: the samples that it broke, each with the distance of its nearest witness.
        held: how many it left standing.
        successes: rows until each success.
        spent: the most rows on one sample.
        rows: the median of the rows on the samples it left standing, 0 where there are none.
        gradients: on the samples it left standing.
        vanished: the share of those that led nowhere; None where there was none.
        margins: median least margin of the samples it left standing, one per doubling of the rows.
    """

    norm: str
    th: int | None
    covers: tuple[int, ...]
    step: int
    attack: str
    kind: str
    white: bool
    broken: Mapping[int, float]
    held: int
    successes: tuple[int, ...]
    spent: int
    rows: float
    gradients: int
    vanished: float | None
    margins: tuple[float | None, ...]

    @property
    def transfers(self) -> bool:
        """Whether it shows another model's images, and searches nothing itself."""
        return self.kind == TRANSFER


Key = tuple[str, int, "int | None"]
"""Norm, step, and level."""


def read_trials(
    units: Sequence[Mapping[str, Any]],
    results: Iterable[tuple[UnitKey, str, ResultRow]],
    witnesses: Iterable[tuple[str, int, int, int, float]],
    found: Mapping[str, NormFindings],
) -> tuple[Trial, ...]:
    """The trials of one model, by norm, step and level.

    Args:
        units: `RunFile.units`.
        results: `RunFile.results`.
        witnesses: `RunFile.witness_steps`.
        found: the findings by norm, in the order of the spec.
    """
    parts: defaultdict[Key, list[Mapping[str, Any]]] = defaultdict(list)
    rows: defaultdict[Key, list[ResultRow]] = defaultdict(list)
    for unit in units:
        parts[_key(found, unit["norm"], unit["step"], unit["th"])].append(unit)
    for key, _, row in results:
        rows[_key(found, key.norm, key.step, key.th)].append(row)
    broken: defaultdict[Key, dict[int, float]] = defaultdict(dict)
    for of_norm, of_step, at, sample, distance in witnesses:
        if (own := found[of_norm].own) and distance > own[sample] + DISTANCE_TOLERANCE:
            continue
        nearest = broken[_key(found, of_norm, of_step, at)]
        nearest[sample] = min(distance, nearest.get(sample, distance))
    order = list(found)
    ordered = sorted(parts, key=lambda key: (order.index(key[0]), key[1], key[2] or 0))
    ran: defaultdict[tuple[str, int], list[int | None]] = defaultdict(list)
    for norm, step, th in ordered:
        ran[norm, step].append(th)
    return tuple(
        _trial(key, parts[key], rows[key], broken[key], _covers(found[key[0]], key[2], ran[key[:2]])) for key in ordered
    )


def _key(found: Mapping[str, NormFindings], norm: str, step: int, th: int) -> Key:
    return norm, step, None if found[norm].threat.nested else th


def _covers(found: NormFindings, th: int | None, ran: Sequence[int | None]) -> tuple[int, ...]:
    """Levels are climbed from the first on, so an attack that never ran there found its own radius."""
    levels = found.shown
    if th is None or (found.carry and len(levels) > 1 and ran == [levels[-1]]):
        return levels
    return (th,)


def _trial(
    key: Key,
    units: Sequence[Mapping[str, Any]],
    rows: Sequence[ResultRow],
    broken: Mapping[int, float],
    covers: tuple[int, ...],
) -> Trial:
    norm, step, th = key
    held = [row for row in rows if row.outcome is Outcome.HELD]
    courses = [course for unit in units if (course := unit["detail"].get("course")) and course["held"]]
    gradients = sum(course["gradients"] for course in courses)
    vanished = sum(course["gradients"] * (course["vanished"] or 0.0) for course in courses)
    return Trial(
        norm=norm,
        th=th,
        covers=covers,
        step=step,
        attack=units[0]["attack"],
        kind=units[0]["kind"],
        white=any(unit["detail"].get("gradient_rows") for unit in units),
        broken=broken,
        held=len(held),
        successes=tuple(row.queries_to_success for row in rows if row.queries_to_success is not None),
        spent=max((row.queries for row in rows), default=0),
        rows=float(median(row.queries for row in held)) if held else 0.0,
        gradients=gradients,
        vanished=vanished / gradients if gradients else None,
        margins=_joined(courses),
    )


def _joined(courses: Sequence[Mapping[str, Any]]) -> tuple[float | None, ...]:
    """The shards' margins as one course, weighted by their samples; a shard that ended earlier keeps its last one."""
    courses = [course for course in courses if course["margins"]]
    joined: list[float | None] = []
    for doubling in range(max((len(course["margins"]) for course in courses), default=0)):
        reached = [(course["margins"][: doubling + 1][-1], course["held"]) for course in courses]
        known = [(margin, held) for margin, held in reached if margin is not None]
        whole = len(known) == len(reached)
        joined.append(sum(m * held for m, held in known) / sum(held for _, held in known) if whole else None)
    return tuple(joined)
