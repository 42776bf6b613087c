"""What a condition "the metric says near" leaves out and lets in, at one threshold and at all.

Everything here is about *farness*: the value of a distance, or minus that of a similarity, so that nearer is always
smaller; a pair is within a threshold where its farness is at most that. Infinity is a value like others, NaN is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.document import Share
from charpy.analysis.intervals import share
from charpy.interfaces.metric import Direction

Values = NDArray[np.float64]

SLACK = 1e-6
"""Relative slack of a threshold that somebody named: the metrics are computed in float32."""


class Rates(NamedTuple):
    """At one threshold: of the pairs that look alike those left out, of those that look different those let in.

    A condition is necessary where nothing is left out, and sufficient where nothing is let in.
    """

    left_out: Share
    let_in: Share


class Sweep(NamedTuple):
    """The same as counts at every farness that occurs, from the nearest to the farthest; `-inf` lets in nothing.

    Attributes:
        farness: float64 `(T,)`, rising. The first is -inf and, where no pair is that near, lies below all.
        left_out, let_in: int64 `(T,)`, out of `alike` and `different` pairs.
    """

    farness: Values
    left_out: NDArray[np.int64]
    let_in: NDArray[np.int64]
    alike: int
    different: int


def farness(values: Values, direction: Direction) -> Values:
    """`values` so that nearer is smaller."""
    return -values if direction is Direction.SIMILARITY else values


def within(far: Values, threshold: float, slack: float = SLACK) -> NDArray[np.bool_]:
    """Which pairs are at most `threshold` far, up to rounding; never a NaN."""
    return np.asarray(far <= (threshold + slack * max(1.0, abs(threshold)) if np.isfinite(threshold) else threshold))


def rates_at(alike: Values, different: Values, threshold: float, slack: float = SLACK) -> Rates:
    """Both shares at one threshold, with their intervals; NaN is not counted."""
    alike, different = known(alike), known(different)
    near, nearer = (int(within(far, threshold, slack).sum()) for far in (alike, different))
    return Rates(share(len(alike) - near, len(alike)), share(nearer, len(different)))


def sweep(alike: Values, different: Values) -> Sweep:
    """Both counts at every threshold at which anything changes, and at one before; NaN is not counted."""
    alike, different = np.sort(known(alike)), np.sort(known(different))
    steps = np.unique(np.concatenate([alike, different]))
    near, nearer = (np.searchsorted(far, steps, side="right") for far in (alike, different))
    return Sweep(
        np.concatenate([[-np.inf], steps]),
        np.concatenate([[len(alike)], len(alike) - near]),
        np.concatenate([[0], nearer]),
        len(alike),
        len(different),
    )


def best_threshold(found: Sweep) -> float:
    """The observed farness with the least sum of both shares (Youden 1950); of equals the nearest.

    Raises:
        ValueError: there are no pairs of one of the two looks.
    """
    if not found.alike or not found.different:
        raise ValueError(f"both looks are needed, got {found.alike} alike and {found.different} different")
    # In whole numbers, so that equals are equal.
    total = found.left_out * found.different + found.let_in * found.alike
    return float(found.farness[1 + int(total[1:].argmin())])


def threshold_reaching(found: Sweep, wanted: float) -> float:
    """The least observed farness within which at least the share `wanted` of the pairs that look alike lies.

    Raises:
        ValueError: no pair looks alike, or `wanted` is outside (0, 1].
    """
    if not found.alike or not 0 < wanted <= 1:
        raise ValueError(f"a share in (0, 1] of at least one pair, got {wanted} of {found.alike}")
    enough = found.alike - found.left_out[1:] >= wanted * found.alike - 1e-9
    return float(found.farness[1 + int(enough.argmax())])


def corners(found: Sweep) -> Sweep:
    """The points at which the ROC curve turns: with straight lines between them it is the same curve."""
    down, up = np.diff(found.left_out).astype(np.int64), np.diff(found.let_in).astype(np.int64)
    turns = down[:-1] * up[1:] != down[1:] * up[:-1]
    keep = np.concatenate([[True], turns, [True]]) if len(found.farness) > 1 else np.array([True])
    return Sweep(found.farness[keep], found.left_out[keep], found.let_in[keep], found.alike, found.different)


def known(far: Values) -> Values:
    """Without NaN."""
    return far[~np.isnan(far)]
