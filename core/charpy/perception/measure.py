"""The metrics of a study, and their values on every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.errors import CharpyError, DataError
from charpy.interfaces.metric import Direction, Metric
from charpy.perception.groups import Originals, PairGroup
from charpy.plugins import Registry

FIRST = ("l0_pixels", "l0_features", "l1", "l2", "linf", "ssim")
"""The order in which metrics are shown; those that are not here follow by name."""

COSTLY = dict.fromkeys(("alignment", "magnification"), "takes long, so it is measured only where --metrics names it")
"""Metrics that are left out where none is named, and why."""

LOADS = "would download the weights of a network, so it is measured only where --metrics names it"
"""Why those with a parameter `download` are."""

NORMS = frozenset(FIRST[:-1])

BATCH = 1 << 18
"""Image values in one call of a metric."""

MOST_COMPARED = 100
"""At most so many images are compared with each other, two by two; of large images fewer, see `compared`."""

COMPARED = 1 << 24
"""Image values in all these comparisons."""

Values = NDArray[np.float64]


class Closest(NamedTuple):
    """The two images of different classes that a metric holds for the most alike; positions, and the value."""

    first: int
    second: int
    value: float


def chosen_metrics(
    kinds: Sequence[str] | None, registry: Registry, group: PairGroup
) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics by kind, and why others are left out; each measures a pair of `group` first.

    Args:
        kinds: these, or all that are installed and can measure such images.
        registry: where they are found.
        group: any pairs of the study.

    Raises:
        CharpyError: a metric of `kinds` that is unknown, or cannot measure such images.
    """
    known = {entry.kind for entry in registry.entries("metrics")}
    wanted = [kind for kind in FIRST if kind in known] + sorted(known - set(FIRST)) if kinds is None else kinds
    pair = group.read(torch.arange(1))
    metrics: dict[str, Metric] = {}
    left_out = {} if kinds is not None else {kind: why for kind, why in COSTLY.items() if kind in known}
    if kinds is None:
        left_out |= {kind: LOADS for kind in known if "download" in registry.load("metrics", kind).Params.model_fields}
    for kind in dict.fromkeys(wanted):
        if kind in left_out:
            continue
        try:
            metric: Metric = registry.create("metrics", kind)
            with torch.no_grad():
                metric(*pair)
        except CharpyError as cause:
            if kinds is not None:
                raise
            left_out[kind] = f"{cause.what}: {cause.found}" if cause.found else cause.what
        else:
            metrics[kind] = metric
    return metrics, left_out


def measured(groups: Sequence[PairGroup], metrics: Mapping[str, Metric]) -> dict[str, Values]:
    """Kind -> float64 values of all pairs, group after group; NaN and infinity where the metric gives them."""
    found: dict[str, list[Values]] = {kind: [] for kind in metrics}
    for group in groups:
        size = max(1, BATCH // group.read(torch.arange(1))[0].numel())
        for rows in torch.split(torch.arange(len(group)), size):
            pair = group.read(rows)
            for kind, metric in metrics.items():
                found[kind].append(_values(metric, *pair))
    return {kind: np.concatenate(pieces) for kind, pieces in found.items()}


def compared(originals: Originals) -> int:
    """How many of the first originals are compared two by two: of n it takes n (n - 1) / 2 pairs."""
    pairs = COMPARED // originals.images[0].numel()
    return min(MOST_COMPARED, len(originals.images), (1 + math.isqrt(1 + 8 * pairs)) // 2)


def closest_of_different_classes(originals: Originals, metric: Metric) -> Closest | None:
    """Among the first `compared` originals, two by two; None where no two of different classes have a value."""
    count = compared(originals)
    first, second = torch.combinations(torch.arange(count)).unbind(1) if count > 1 else torch.zeros(2, 0).long()
    apart = originals.labels[first] != originals.labels[second]
    first, second = first[apart], second[apart]
    if not len(first):
        return None
    size = max(1, BATCH // originals.images[0].numel())
    pieces = zip(torch.split(first, size), torch.split(second, size), strict=True)
    values = np.concatenate([_values(metric, originals.images[one], originals.images[other]) for one, other in pieces])
    far = -values if metric.direction is Direction.SIMILARITY else values
    if np.isnan(far).all():
        return None
    best = int(np.nanargmin(far))
    return Closest(int(first[best]), int(second[best]), float(values[best]))


def _values(metric: Metric, originals: torch.Tensor, changed: torch.Tensor) -> Values:
    with torch.no_grad():
        values = metric(originals, changed).double().cpu().numpy()
    if values.shape != (len(originals),):
        found = f"{type(metric).__name__} gave {values.shape}"
        raise DataError("a metric gives one value a pair", found=found, expected=f"({len(originals)},)")
    return np.asarray(values, np.float64)
