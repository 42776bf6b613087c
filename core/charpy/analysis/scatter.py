"""What other metrics say of the witnesses that a norm let through: one point a witness, an attack at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from charpy.analysis.document import ScatterPart
from charpy.planned import DEFAULT_METRICS
from charpy.records import MeasuredWitness
from charpy.threat import BALLS

POINTS = 250
"""Of one attack at most; of more, evenly chosen ones in the order of the samples."""

Point = tuple[float, float]


def scatter_parts(units: Sequence[Mapping[str, Any]], measured: Iterable[MeasuredWitness]) -> tuple[ScatterPart, ...]:
    """One part for each metric beside the norms, each norm with a ball, and each attack that broke something.

    Of each sample the attack's nearest witness counts.

    Args:
        units: `RunFile.units` of one model.
        measured: `RunFile.witness_metrics` of it.
    """
    names = {(unit["norm"], unit["step"]): unit["attack"] for unit in units}
    nearest: dict[tuple[str, int, int], MeasuredWitness] = {}
    for witness in measured:
        key = witness.norm, witness.step, witness.sample
        if key not in nearest or witness.distance < nearest[key].distance:
            nearest[key] = witness
    points: defaultdict[tuple[str, str, int], list[Point]] = defaultdict(list)
    for (norm, step, _), witness in sorted(nearest.items()):
        for metric, value in witness.metrics.items():
            if norm in BALLS and metric not in DEFAULT_METRICS and math.isfinite(value):
                points[metric, norm, step].append((witness.distance, value))
    return tuple(
        ScatterPart(metric=metric, norm=norm, step=step, attack=names[norm, step], points=_some(found))
        for (metric, norm, step), found in sorted(points.items())
    )


def _some(points: Sequence[Point]) -> tuple[Point, ...]:
    chosen = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(np.int64))
    return tuple(points[place] for place in chosen.tolist())
