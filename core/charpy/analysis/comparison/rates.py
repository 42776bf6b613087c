"""Shares with Wilson intervals."""

from __future__ import annotations

from charpy.analysis.comparison.document import Rate
from charpy.analysis.intervals import ratio, wilson


def rate(count: int, total: int) -> Rate:
    """`count` of `total`; value and interval are None when `total` is 0."""
    low, high = wilson(count, total) or (None, None)
    return Rate(count=count, total=total, value=ratio(count, total), low=low, high=high)
