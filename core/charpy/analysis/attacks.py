"""What each attack did at each level, summed over its units, and the claims that the judge refused."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from charpy.analysis.document import AttackPart, RejectedPart
from charpy.analysis.findings import NormFindings
from charpy.records import MeasuredWitness


def attack_parts(
    units: Sequence[Mapping[str, Any]], found: Mapping[str, NormFindings], measured: Iterable[MeasuredWitness]
) -> tuple[AttackPart, ...]:
    """One part per norm, level and battery step, in that order.

    Args:
        units: `RunFile.units` of one model.
        found: its findings by norm, in the order of the spec.
        measured: `RunFile.witness_metrics` of it.
    """
    means = _means(measured)
    groups: defaultdict[tuple[int, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    order = list(found)
    for unit in units:
        groups[order.index(unit["norm"]), unit["th"], unit["step"]].append(unit)
    ordered = [group for _, group in sorted(groups.items(), key=lambda item: item[0])]
    return tuple(
        _attack_part(group, found, means.get((group[0]["norm"], group[0]["th"], group[0]["step"]), {}))
        for group in ordered
    )


def _means(measured: Iterable[MeasuredWitness]) -> dict[tuple[str, int, int], dict[str, float]]:
    """By norm, level and step, the mean of each metric where it is finite."""
    values: defaultdict[tuple[str, int, int], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for witness in measured:
        for name, value in witness.metrics.items():
            if math.isfinite(value):
                values[witness.norm, witness.th, witness.step][name].append(value)
    return {
        key: {name: math.fsum(numbers) / len(numbers) for name, numbers in sorted(of_unit.items())}
        for key, of_unit in values.items()
    }


def _attack_part(
    units: Sequence[Mapping[str, Any]], found: Mapping[str, NormFindings], metrics: dict[str, float]
) -> AttackPart:
    first = units[0]
    attacked = sum(unit["attacked"] for unit in units)
    rows, seconds = sum(unit["rows"] for unit in units), sum(unit["seconds"] for unit in units)
    # A resumed run may have measured the bare model twice, so each unit is held against its own measurement.
    bare = sum(unit["detail"].get("bare_seconds") or 0.0 for unit in units)
    to_success = found[first["norm"]].to_success.get((first["th"], first["step"]), [])
    return AttackPart(
        name=first["attack"],
        kind=first["kind"],
        norm=first["norm"],
        th=first["th"],
        params=first["detail"].get("params", {}),
        budget=first["detail"].get("queries"),
        attacked=attacked,
        broken=sum(unit["broken"] for unit in units),
        queries_mean=sum(unit["queries_sum"] for unit in units) / attacked if attacked else 0.0,
        queries_max=max(unit["queries_max"] for unit in units),
        queries_to_success_median=float(median(to_success)) if to_success else None,
        rows=rows,
        seconds=seconds,
        overhead=seconds / bare if bare else None,
        rejected_claims=sum(unit["rejected"] for unit in units),
        metrics=metrics,
        notes=_notes(units),
    )


def _notes(units: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each figure over the units that have it, weighted by their samples."""
    parts: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for unit in units:
        for name, value in unit["detail"].get("notes", {}).items():
            if math.isfinite(value):
                parts[name].append((value, unit["attacked"]))
    return {
        name: math.fsum(value * count for value, count in found) / max(1, sum(count for _, count in found))
        for name, found in sorted(parts.items())
    }


def rejected_parts(claims: Sequence[Mapping[str, Any]]) -> tuple[RejectedPart, ...]:
    """`RunFile.rejected` of one model, counted by attack, norm and reason."""
    counts = Counter((claim["attack"], claim["norm"], claim["reason"]) for claim in claims)
    return tuple(
        RejectedPart(attack=attack, norm=norm, reason=reason, count=count)
        for (attack, norm, reason), count in sorted(counts.items())
    )
