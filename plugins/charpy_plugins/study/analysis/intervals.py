"""Figures over participants, with intervals: by Student's t, by resampling participants, and of a median."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from charpy.analysis.intervals import mean_interval
from charpy_plugins.study.analysis.document import Figure
from charpy_plugins.study.analysis.trials import Array

UNIT = "participant"
NOBODY = "no participant is included"
ALONE = "one participant: how much participants differ is not known"
ALIKE = "all participants have the same mean: an interval from their spread would have no width"
CHUNK = 1000


def mean_figure(means: Array, low: float, high: float) -> Figure:
    """The mean of participants' means `(P,)`, with the interval of Student's t, cut to `low..high`."""
    if reason := _unspread(means):
        return _without(means, reason)
    interval = mean_interval(list(means), low=low, high=high)
    return Figure(value=float(means.mean()), low=interval[0], high=interval[1], unit=UNIT, count=len(means))


def bootstrap_figure(means: Array, draws: int, seed: int) -> Figure:
    """The mean of participants' means `(P,)`, with the percentiles of resampled participants (Efron 1979).

    A participant is drawn with all answers, so answers of one person stay together.
    """
    if reason := _unspread(means):
        return _without(means, reason)
    interval = percentiles(len(means), draws, seed, lambda weights: weights @ means / len(means))
    return Figure(value=float(means.mean()), low=interval[0], high=interval[1], unit=UNIT, count=len(means))


def percentiles(units: int, draws: int, seed: int, figure: Callable[[Array], Array]) -> tuple[float, float]:
    """2.5 % and 97.5 % of `figure` over resampled units; it gets how often each is drawn, `(D, units)`."""
    random = np.random.default_rng(seed)
    even = np.full(units, 1 / units)
    found = [
        figure(random.multinomial(units, even, size=min(CHUNK, draws - at)).astype(float))
        for at in range(0, draws, CHUNK)
    ]
    low, high = np.nanpercentile(np.concatenate(found), [2.5, 97.5])
    return float(low), float(high)


def median_figure(values: Array) -> Figure:
    """The median of one value a participant, with its exact interval by order statistics (Thompson 1936).

    The number of participants below the true median is Binomial(P, 1/2), so from the (k + 1)-th smallest to the
    (k + 1)-th largest covers it with 1 - 2 P(X <= k), at least 95 %; below six participants no such k is there.
    """
    from scipy.stats import binom

    if len(values) == 0:
        return _without(values, NOBODY)
    ordered = np.sort(values)
    k = int(binom.ppf(0.025, len(values), 0.5)) - 1
    middle = float(np.median(ordered))
    if k < 0:
        reason = "fewer than six participants: no two of them enclose the median with 95 %"
        return Figure(value=middle, unit=UNIT, count=len(values), reason=reason)
    return Figure(value=middle, low=float(ordered[k]), high=float(ordered[-k - 1]), unit=UNIT, count=len(values))


def _unspread(means: Array) -> str:
    if len(means) < 2:
        return ALONE if len(means) else NOBODY
    return ALIKE if float(np.ptp(means)) < 1e-12 else ""


def _without(means: Array, reason: str) -> Figure:
    value = float(means.mean()) if len(means) else None
    return Figure(value=value, unit=UNIT, count=len(means), reason=reason)
