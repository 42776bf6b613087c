"""Binomial confidence bounds, exact (Clopper & Pearson 1934) and by score (Wilson 1927), shares that carry them, and
intervals of means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from charpy.analysis.document import Share

CONFIDENCE = 0.95


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The two-sided exact interval `(low, high)` of a binomial share; None when `total` is 0.

    low is the p with P(X >= count | p) = (1 - confidence) / 2, high the p with P(X <= count | p) = the same; both are
    quantiles of beta distributions. `count` 0 gives low = 0, `count == total` gives high = 1.

    Raises:
        ValueError: count is not within 0..total.
    """
    _check(count, total)
    if total == 0:
        return None
    tail = (1 - confidence) / 2
    return _lower(count, total, tail), _upper(count, total, tail)


def wilson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The two-sided score interval `(low, high)` of a binomial share (Wilson 1927); None when `total` is 0.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). It covers the truth with `confidence` on
    average, where the exact interval never covers less and so is wider.

    Raises:
        ValueError: count is not within 0..total.
    """
    _check(count, total)
    if total == 0:
        return None
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), count / total
    middle, shrink = p + z * z / (2 * total), 1 + z * z / total
    half = z * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    low = 0.0 if count == 0 else (middle - half) / shrink
    return low, 1.0 if count == total else (middle + half) / shrink


def upper_bound(count: int, total: int, confidence: float = CONFIDENCE) -> float | None:
    """The one-sided exact upper bound of a binomial share; None when `total` is 0.

    With 0 of n this is 1 - (1 - confidence)^(1/n), about 3/n: what n samples without a single failure can show.

    Raises:
        ValueError: count is not within 0..total.
    """
    _check(count, total)
    return None if total == 0 else _upper(count, total, 1 - confidence)


def share(count: int, total: int) -> Share:
    """`count` of `total` with its two-sided 95 % interval; value and interval are None when `total` is 0."""
    interval = clopper_pearson(count, total)
    if interval is None:
        return Share(count=count, total=total, value=None, low=None, high=None)
    return Share(count=count, total=total, value=count / total, low=interval[0], high=interval[1])


def mean_interval(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t, cut to `low..high`; of one value, the value itself."""
    from scipy.stats import t

    middle, count = float(np.mean(values)), len(values)
    if count < 2:
        return middle, middle
    half = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / count**0.5
    return max(low, middle - half), min(high, middle + half)


def ratio(count: int, total: int) -> float | None:
    """`count / total`, or None when `total` is 0."""
    return count / total if total else None


def _lower(count: int, total: int, tail: float) -> float:
    from scipy.stats import beta  # here, because scipy.stats takes a second to import

    return 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))


def _upper(count: int, total: int, tail: float) -> float:
    from scipy.stats import beta

    return 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))


def _check(count: int, total: int) -> None:
    if not 0 <= count <= total:
        raise ValueError(f"a count must lie within 0..total, got {count} of {total}")
