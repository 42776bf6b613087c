"""From the values of every metric on every pair, and the labels of the pairs, to the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.document import Share
from charpy.analysis.intervals import share
from charpy.analysis.perception.area import area
from charpy.analysis.perception.document import (
    AreaPart,
    CurvePart,
    GroupPart,
    MetricPart,
    RatePart,
    SpreadPart,
    ThresholdPart,
)
from charpy.analysis.perception.labels import ALIKE, DIFFERENT, Labels
from charpy.analysis.perception.rates import (
    Sweep,
    Values,
    best_threshold,
    corners,
    farness,
    known,
    rates_at,
    sweep,
    threshold_reaching,
    within,
)
from charpy.analysis.perception.usual import usual_thresholds
from charpy.interfaces.metric import Direction, Metric
from charpy.perception.groups import PairGroup

REACH = 0.95
"""A threshold is named at which this share of the pairs that look alike is let in."""


RATES = 60
"""At most so many thresholds that occur are written with their intervals."""


class Measured(NamedTuple):
    """All pairs, group after group: values by metric, labels, and the original of each, as numbers."""

    groups: Sequence[PairGroup]
    metrics: Mapping[str, Metric]
    values: Mapping[str, Values]
    labels: Labels

    @property
    def slices(self) -> list[slice]:
        """Where each group's pairs are."""
        ends = np.cumsum([0, *(len(group) for group in self.groups)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    @property
    def original_of(self) -> NDArray[np.int64]:
        """A number for the original of each pair."""
        names = [name for group in self.groups for name in group.originals]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def far(self, kind: str) -> Values:
        """The farness of every pair by one metric."""
        return farness(self.values[kind], self.metrics[kind].direction)


def group_parts(measured: Measured) -> tuple[GroupPart, ...]:
    """Every group with the spread of every metric."""
    labels = measured.labels.values
    return tuple(
        GroupPart(
            name=group.name,
            text=group.text,
            pairs=len(group),
            alike=int((labels[place] == ALIKE).sum()),
            different=int((labels[place] == DIFFERENT).sum()),
            values={kind: _spread(values[place]) for kind, values in measured.values.items()},
        )
        for group, place in zip(measured.groups, measured.slices, strict=True)
    )


def metric_parts(measured: Measured, shape: tuple[int, int, int]) -> tuple[MetricPart, ...]:
    """Every metric with its curve, its area and its thresholds."""
    original = measured.original_of
    return tuple(_metric(measured, kind, shape, original) for kind in measured.metrics)


def verdict(parts: Sequence[MetricPart], source: str) -> str:
    """Whether some condition is both, and the one that comes nearest, in one or two sentences."""
    best = [(part, threshold) for part in parts for threshold in part.thresholds if threshold.role == "best"]
    if not best:
        return "There are not both pairs that look alike and pairs that look different, so no condition can be tested."
    according = "people's answers" if source == "answers" else "the proxy"
    both = [
        f"{part.kind} (0 of {at.left_out.total} left out, 0 of {at.let_in.total} let in)"
        for part, at in best
        if not at.left_out.count and not at.let_in.count
    ]
    if both:
        return (
            f"On these pairs, by {according}, a condition on {', '.join(both)} is both necessary and sufficient. "
            "Other pairs may contradict it."
        )
    tried = f"any of {len(best)} metrics" if len(best) > 1 else best[0][0].kind
    part, at = min(best, key=lambda item: (item[1].left_out.value or 0) + (item[1].let_in.value or 0))
    return (
        f"By {according}, no condition on {tried} is both necessary and sufficient for looking alike. "
        f"The one that comes nearest, {part.kind} {at.title}, leaves out {_percent(at.left_out)} of the pairs that "
        f"look alike and lets in {_percent(at.let_in)} of those that look different."
    )


def finite(value: float) -> float | None:
    """For JSON, which has no infinity and no NaN."""
    return value if np.isfinite(value) else None


def written(value: float, direction: Direction) -> str:
    """A condition as one reads it."""
    return f"{'≥' if direction is Direction.SIMILARITY else '≤'} {value:.4g}"


def _percent(share: Share) -> str:
    return f"{100 * (share.value or 0):.1f} %"


def _metric(measured: Measured, kind: str, shape: tuple[int, int, int], original: NDArray[np.int64]) -> MetricPart:
    metric, values, far, labels = measured.metrics[kind], measured.values[kind], measured.far(kind), measured.labels
    alike, different = ((labels.values == look) & ~np.isnan(far) for look in (ALIKE, DIFFERENT))
    found = sweep(far[alike], far[different])
    whole = area(far[alike], far[different], original[alike], original[different])
    return MetricPart(
        kind=kind,
        unit=metric.unit,
        direction=metric.direction.value,
        unmeasured=int(np.isnan(values).sum()),
        area=None if whole is None else AreaPart(value=whole.value, low=whole.low, high=whole.high),
        thresholds=tuple(_thresholds(measured, kind, shape, found)),
        rates=tuple(_rates(found, metric.direction)),
        curve=None if whole is None else _curve(corners(found), metric.direction),
    )


def _thresholds(measured: Measured, kind: str, shape: tuple[int, int, int], found: Sweep) -> Sequence[ThresholdPart]:
    """The usual ones as they are written, then those that were chosen on these pairs, where nothing is rounded."""
    metric, far = measured.metrics[kind], measured.far(kind)
    labels = measured.labels.values
    alike, different = far[labels == ALIKE], far[labels == DIFFERENT]

    def part(title: str, at: float, role: str, source: str, slack: float) -> ThresholdPart:
        rates = rates_at(alike, different, at, slack)
        inside = {
            group.name: share(int(within(far[place], at, slack).sum()), len(known(far[place])))
            for group, place in zip(measured.groups, measured.slices, strict=True)
        }
        value = finite(-at if metric.direction is Direction.SIMILARITY else at)
        return ThresholdPart.model_validate(
            {"title": title, "value": value, "role": role, "source": source, "within": inside, **rates._asdict()}
        )

    sign = -1 if metric.direction is Direction.SIMILARITY else 1
    mark = "≥" if sign < 0 else "≤"
    parts = [
        part(f"{mark} {usual.title}", sign * usual.value, "usual", usual.source, 1e-6)
        for usual in usual_thresholds(kind, shape)
    ]
    chosen: list[tuple[str, float, str]] = []
    if found.alike:
        chosen.append(("reach", threshold_reaching(found, REACH), f"lets in {100 * REACH:g} % of what looks alike"))
    if found.alike and found.different:
        chosen.append(("best", best_threshold(found), "least sum of both shares"))
    parts += [part(written(sign * at, metric.direction), at, role, source, 0.0) for role, at, source in chosen]
    return parts


def _rates(found: Sweep, direction: Direction) -> Iterator[RatePart]:
    sign, steps = -1 if direction is Direction.SIMILARITY else 1, len(found.farness) - 1
    for step in np.unique(np.linspace(1, steps, min(steps, RATES)).round().astype(int)).tolist() if steps else ():
        left_out, let_in = int(found.left_out[step]), int(found.let_in[step])
        yield RatePart(
            threshold=finite(sign * float(found.farness[step])),
            left_out=share(left_out, found.alike),
            let_in=share(let_in, found.different),
        )


def _curve(found: Sweep, direction: Direction) -> CurvePart:
    sign = -1 if direction is Direction.SIMILARITY else 1
    return CurvePart(
        thresholds=tuple(finite(sign * far) for far in found.farness.tolist()),
        left_out=tuple(found.left_out.tolist()),
        let_in=tuple(found.let_in.tolist()),
        alike=found.alike,
        different=found.different,
    )


def _spread(values: Values) -> SpreadPart:
    """Of values that occur, so that infinity does no harm."""
    ordered = np.sort(known(values))
    places = [round(share * (len(ordered) - 1)) for share in (0, 0.05, 0.5, 0.95, 1)] if len(ordered) else []
    picked = [finite(float(ordered[place])) for place in places] or [None] * 5
    names = ("least", "low", "median", "high", "most")
    return SpreadPart(**dict(zip(names, picked, strict=True)), unmeasured=len(values) - len(ordered))
