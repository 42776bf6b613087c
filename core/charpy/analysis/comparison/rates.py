"""Shares with Wilson intervals."""

from __future__ import annotations

from charpy.analysis.comparison.document import Rate
from charpy.analysis.intervals import ratio, wilson


def rate(count: int, total: int, *, known: bool = True) -> Rate:
    """`count` of `total`; value and interval are None when `total` is 0 or the counts are not `known` to stay."""
    low, high = (wilson(count, total) if known else None) or (None, None)
    return Rate(count=count, total=total, value=ratio(count, total) if known else None, low=low, high=high)
