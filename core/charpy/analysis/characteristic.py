"""What each attack of a contest does alone: success, distortion, operating characteristic (Zhang et al. 2019, 5.1)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from charpy.analysis.document import CharacteristicPart
from charpy.analysis.findings import Population
from charpy.analysis.intervals import share
from charpy.outcome import Outcome
from charpy.runfile import RunFile
from charpy.specs import RunSpec

DISTANCE = "l2"
"""The paper's D. All attacks are measured by it, whatever norm they were told to keep to."""

STEPS = 512
"""Pairs of a curve at most."""

Best = tuple[float, Mapping[str, float]]
"""The distortion of a sample's nearest image, and its metrics."""


def characteristic_parts(
    run: RunFile, model: int, spec: RunSpec, population: Population, units: Sequence[Mapping[str, Any]]
) -> tuple[CharacteristicPart, ...]:
    """One part per norm and step of its battery, in the order they ran.

    P_suc = N_suc / N (eq. 20), N the correctly classified samples; D-bar is the mean over the samples broken, for
    distortion makes no sense for a failure; P(D) is the share of the N that is broken within D (eq. 21). An attack that
    is given a distortion counts by its best run.

    Args:
        run: of a contest.
        model: its number.
        spec: of the run.
        population: its samples.
        units: `RunFile.units` of it.
    """
    best: defaultdict[tuple[str, int], dict[int, Best]] = defaultdict(dict)
    rows = [row for row in run.witness_metrics(model) if population.correct[population.position[row.sample]]]
    measured, factor = all(DISTANCE in row.metrics for row in rows), _factor(spec)
    for row in rows:
        value = row.metrics[DISTANCE] * factor if measured else row.distance
        known = best[row.norm, row.step]
        if row.sample not in known or value < known[row.sample][0]:
            known[row.sample] = value, row.metrics
    answered: defaultdict[tuple[str, int], dict[int, bool]] = defaultdict(dict)
    for unit_key, _, result in run.results(model):
        valid = answered[unit_key.norm, unit_key.step]
        valid[result.sample] = valid.get(result.sample, True) and result.outcome is not Outcome.INVALID
    total = int(population.correct.sum())
    ran = {(unit["norm"], unit["step"]): unit for unit in units}
    return tuple(
        _part(unit, best[key], total, total - _settled(best[key], answered[key]), DISTANCE if measured else key[0])
        for key, unit in ran.items()
    )


def _settled(best: Mapping[int, Best], answered: Mapping[int, bool]) -> int:
    """The samples that an attack broke, or failed on in runs that are all valid: where one is not, nothing held."""
    return sum(valid or sample in best for sample, valid in answered.items())


def _factor(spec: RunSpec) -> float:
    """What the run's L2 metric is multiplied by to be on the 0..255 scale: the default ones are, one that a spec names
    counts image values unless it says otherwise."""
    named = next((metric for metric in spec.metrics if metric.kind == DISTANCE), None)
    return 1.0 if named is None else 255 / float(named.params.get("scale", 1))


def _part(
    unit: Mapping[str, Any], best: Mapping[int, Best], total: int, invalid: int, distance: str
) -> CharacteristicPart:
    values = np.sort(np.array([size for size, _ in best.values()], np.float64))
    measured: defaultdict[str, list[float]] = defaultdict(list)
    for _, metrics in best.values():
        for name, value in metrics.items():
            if math.isfinite(value):
                measured[name].append(value)
    ends = np.flatnonzero(np.diff(values, append=math.inf))  # of equal distances the last: all of them count there
    if len(ends) > STEPS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, STEPS).round().astype(np.int64))]
    return CharacteristicPart(
        norm=unit["norm"],
        step=unit["step"],
        name=unit["attack"],
        kind=unit["kind"],
        success=share(len(values), total),
        invalid=invalid,
        distance=distance,
        mean=math.fsum(values) / len(values) if len(values) else None,
        largest=float(values[-1]) if len(values) else None,
        metrics={name: math.fsum(found) / len(found) for name, found in sorted(measured.items())},
        curve=tuple((float(values[end]), float((end + 1) / total)) for end in ends),
    )
