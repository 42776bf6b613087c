"""The area under the ROC curve of a metric, with an interval that knows that several pairs share an original."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.detection import Area
from charpy.analysis.detection import area as area_of_scores
from charpy.analysis.intervals import CONFIDENCE
from charpy.analysis.perception.rates import Values

Codes = NDArray[np.int64]


def area(alike: Values, different: Values, alike_of: Codes, different_of: Codes) -> Area | None:
    """The probability that a pair that looks alike is nearer than one that looks different, a tie counting one half.

    The interval is that of the logit, with `clustered_variance`; where that is 0 or does not exist, such as where the
    two do not overlap, that of `charpy.analysis.detection.area`, which takes the pairs as independent.

    Args:
        alike, different: farness of the pairs, without NaN.
        alike_of, different_of: the original of each pair, any numbers.

    Returns:
        None where there are no pairs of one look.
    """
    if not len(alike) or not len(different):
        return None
    # The area depends on the order alone, and ranks are finite.
    _, ranks = np.unique(np.concatenate([alike, different]), return_inverse=True)
    one, other = ranks[: len(alike)].astype(np.float64), ranks[len(alike) :].astype(np.float64)
    plain = area_of_scores(one, other)
    variance = clustered_variance(one, other, alike_of, different_of)
    if not 0 < plain.value < 1 or not variance > 0:
        return plain
    logit = math.log(plain.value / (1 - plain.value))
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance) / (plain.value * (1 - plain.value))
    return Area(plain.value, *(1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (logit - half, logit + half)))


def clustered_variance(alike: Values, different: Values, alike_of: Codes, different_of: Codes) -> float:
    """Of the area, between clusters of pairs of one original (Obuchowski 1997, Nonparametric analysis of clustered ROC
    curve data), from the placement values of DeLong, DeLong & Clarke-Pearson 1988; NaN for one cluster.

    I / (I - 1) sum over the I clusters of (sum (V(x) - area) / m + sum (V(y) - area) / n)^2, with m alike and n
    different pairs. Differs from the paper: I counts all clusters, also those that have pairs of one look only.
    """
    _, codes = np.unique(np.concatenate([alike_of, different_of]), return_inverse=True)
    clusters = int(codes.max()) + 1
    if clusters < 2:
        return math.nan
    placed_alike, placed_different = 1 - _placement(different, alike), _placement(alike, different)
    theta = float(placed_alike.mean())
    one = np.bincount(codes[: len(alike)], placed_alike - theta, clusters)
    other = np.bincount(codes[len(alike) :], placed_different - theta, clusters)
    total = one / len(alike) + other / len(different)
    return float(clusters / (clusters - 1) * (total**2).sum())


def _placement(among: Values, values: Values) -> Values:
    """For each of `values` the share of `among` below it, a tie counting one half."""
    ordered = np.sort(among)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(among)))
