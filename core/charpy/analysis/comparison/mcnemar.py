"""The exact test of McNemar (1947): whether two attacks break different shares of the same samples."""

from __future__ import annotations


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value, in (0, 1].

    Only samples that one attack breaks and the other does not can tell them apart. If the attacks were equally strong,
    each such sample would fall to either side like a coin: p = min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2).
    Computed in whole numbers, so that it is exact at any size.

    Raises:
        ValueError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts cannot be negative, got {only_first} and {only_second}")
    trials, fewer = only_first + only_second, min(only_first, only_second)
    term = total = 1
    for chosen in range(fewer):
        term = term * (trials - chosen) // (chosen + 1)
        total += term
    return min(1.0, 2 * total / (1 << trials))
