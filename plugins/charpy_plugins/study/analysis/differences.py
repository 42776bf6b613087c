"""Two conditions, two-sided: tests on arrays with any leading dimensions, so that thousands of studies run at once."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from charpy_plugins.study.analysis.trials import Array, Table

NOTHING = 1e-7
"""A standard error below this is none: averages of answers differ by more, or not at all."""


class Tested(NamedTuple):
    """Second condition minus first, `(...)` each; NaN where the data has no spread to test against."""

    estimate: Array
    error: Array
    df: Array
    statistic: Array
    p: Array
    low: Array
    high: Array


def student(first: Array, second: Array) -> Tested:
    """Student's t test on participants' means `(..., P)`: both conditions have one variance."""
    n, m = first.shape[-1], second.shape[-1]
    pooled = ((n - 1) * first.var(-1, ddof=1) + (m - 1) * second.var(-1, ddof=1)) / (n + m - 2)
    variance = pooled * (1 / n + 1 / m)
    return _t(second.mean(-1) - first.mean(-1), variance, np.full_like(variance, n + m - 2))


def welch(first: Array, second: Array) -> Tested:
    """Welch's t test (1947) on participants' means `(..., P)`: each condition has its own variance."""
    variance, df = _welch(first, second)
    return _t(second.mean(-1) - first.mean(-1), variance, df)


def images(first: Table, second: Table) -> Tested:
    """The paired t test on the means of each original that both conditions showed: by images, not by people ("F2")."""
    difference = second.originals() - first.originals()
    there = np.isfinite(difference)
    count = there.sum(-1)
    mean = np.where(there, difference, 0.0).sum(-1) / np.maximum(count, 1)
    squares = np.where(there, (difference - mean[..., None]) ** 2, 0.0).sum(-1)
    variance = np.where(count > 1, squares / np.maximum(count - 1, 1) / np.maximum(count, 1), np.nan)
    return _t(mean, variance, np.maximum(count - 1, 1).astype(float))


def crossed(first: Table, second: Table) -> Tested:
    """The difference of participants' means, with a variance that is clustered by participants and by originals.

    V = V_participants + V_originals - V_answers (Cameron, Gelbach & Miller 2011), where V_participants is Welch's, an
    original's contributions in both conditions go together, and V is never less than V_participants. The
    degrees of freedom are Satterthwaite's of its two parts. It takes both people and images as samples of more.
    """
    people = (first.participants(), second.participants())
    by_people, people_df = _welch(*people)
    parts = [
        (table.total - table.count * means.mean(-1)[..., None, None])
        / (table.count.sum(-1, keepdims=True) * means.shape[-1])
        for table, means in zip((first, second), people, strict=True)
    ]
    shown = ((first.count.sum(-2) + second.count.sum(-2)) > 0).sum(-1)
    by_original = ((parts[1].sum(-2) - parts[0].sum(-2)) ** 2).sum(-1) * shown / np.maximum(shown - 1, 1)
    more = np.maximum(by_original - sum((part**2).sum((-1, -2)) for part in parts), 0.0)
    variance = by_people + more
    weights = by_people**2 / people_df + more**2 / np.maximum(shown - 1, 1)
    df = np.where(weights > 0, variance**2 / np.where(weights > 0, weights, 1), people_df)
    return _t(people[1].mean(-1) - people[0].mean(-1), variance, df)


def permutation(first: Array, second: Array, draws: int, seed: int) -> Tested:
    """Permutes participants between conditions; the statistic is Welch's t (Janssen 1997).

    Exact where conditions do not differ at all, whatever the distribution; for large arms also where only
    the means are equal. All splits are taken where there are at most `draws`, and p is the share of them that is as
    far out; otherwise `draws` random ones, and p = (1 + those as far out) / (1 + draws). The interval is
    difference -+ q error, with q the 95 % quantile of the permuted |t|.
    """
    n, m = first.shape[-1], second.shape[-1]
    values = np.concatenate([first, second], -1)
    values = values - values.mean(-1, keepdims=True)  # for the precision of the sums of squares
    splits, exact = _splits(n, n + m, draws, seed)
    rows = values.reshape(-1, n + m)
    variance, _ = _welch(first, second)
    error = np.sqrt(variance)
    found = np.abs(_ratio(second.mean(-1) - first.mean(-1), error)).reshape(-1)
    p, quantile = np.empty(len(rows)), np.empty(len(rows))
    for at in range(0, len(rows), 100):
        permuted = _permuted(rows[at : at + 100], splits, n)
        farther = (permuted >= found[None, at : at + 100] * (1 - NOTHING) - NOTHING).sum(0)
        p[at : at + 100] = farther / len(splits) if exact else (1 + farther) / (1 + len(splits))
        quantile[at : at + 100] = np.quantile(permuted, 0.95, axis=0, method="higher")
    estimate = second.mean(-1) - first.mean(-1)
    known = (error > NOTHING) & np.isfinite(quantile.reshape(error.shape))
    half = np.where(known, np.where(known, quantile.reshape(error.shape), 0.0) * error, np.nan)
    shaped = p.reshape(error.shape)
    nothing = np.full_like(error, np.nan)
    statistic = np.where(error > NOTHING, _ratio(estimate, error), nothing)
    return Tested(estimate, error, nothing, statistic, shaped, estimate - half, estimate + half)


def tost(first: Array, second: Array, margin: float, alpha: float = 0.05) -> Tested:
    """Two one-sided Welch tests of |difference| >= margin (Schuirmann 1987); the interval is that of 1 - 2 alpha."""
    from scipy.stats import t

    one = welch(first, second)
    lower, upper = (one.estimate + margin) / one.error, (one.estimate - margin) / one.error
    p = np.maximum(t.sf(lower, one.df), t.cdf(upper, one.df))
    half = t.ppf(1 - alpha, one.df) * one.error
    nearest = np.where(np.abs(lower) < np.abs(upper), lower, upper)
    return Tested(one.estimate, one.error, one.df, nearest, p, one.estimate - half, one.estimate + half)


def _welch(first: Array, second: Array) -> tuple[Array, Array]:
    """Variance of the difference, and Satterthwaite's degrees of freedom."""
    n, m = first.shape[-1], second.shape[-1]
    a, b = first.var(-1, ddof=1) / n, second.var(-1, ddof=1) / m
    weights = a**2 / (n - 1) + b**2 / (m - 1)
    return a + b, np.where(weights > 0, (a + b) ** 2 / np.where(weights > 0, weights, 1.0), float(n + m - 2))


def _t(estimate: Array, variance: Array, df: Array) -> Tested:
    from scipy.stats import t

    error = np.sqrt(np.where(variance > NOTHING**2, variance, np.nan))
    statistic = estimate / error
    half = t.ppf(0.975, df) * error
    return Tested(estimate, error, df, statistic, 2 * t.sf(np.abs(statistic), df), estimate - half, estimate + half)


def _ratio(estimate: Array, error: Array) -> Array:
    """t; where there is no error, 0 without a difference and infinite with one."""
    none = error <= NOTHING
    endless = np.where(np.abs(estimate) > NOTHING, np.inf, 0.0)
    return np.where(none, endless, estimate / np.where(none, 1.0, error))


def _splits(first: int, whole: int, draws: int, seed: int) -> tuple[Array, bool]:
    """`(D, whole)` 1 for who goes to the first condition; and whether these are all splits."""
    if math.comb(whole, first) <= draws:
        chosen = np.array(list(combinations(range(whole), first)))
        exact = True
    else:
        chosen = np.random.default_rng(seed).random((draws, whole)).argsort(1)[:, :first]
        exact = False
    splits = np.zeros((len(chosen), whole))
    np.put_along_axis(splits, chosen, 1.0, 1)
    return splits, exact


def _permuted(rows: Array, splits: Array, n: int) -> Array:
    """`(D, S)` |t| of every split of every row `(S, P)`."""
    m = rows.shape[-1] - n
    sums, squares = splits @ rows.T, splits @ (rows**2).T
    others, other_squares = rows.sum(-1) - sums, (rows**2).sum(-1) - squares
    a = np.maximum(squares - sums**2 / n, 0.0) / (n - 1) / n
    b = np.maximum(other_squares - others**2 / m, 0.0) / (m - 1) / m
    return np.abs(_ratio(others / m - sums / n, np.sqrt(a + b)))
