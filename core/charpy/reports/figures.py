"""Figures as a reader meets them: one way to write a share, an interval, a count and a duration."""

from __future__ import annotations

from collections.abc import Sequence

from charpy.analysis.verdict import percent as exact_percent

NOTHING = "–"  # noqa: RUF001 (an en dash stands for "no figure")

NO_BREAK = "\u00a0"
"""Between a number and its unit."""


def percent(value: float | None) -> str:
    """A share in per cent; only 0 is written as 0 %, only 1 as 100 %."""
    return NOTHING if value is None else exact_percent(value).replace(" ", NO_BREAK)


def interval(bounds: Sequence[float] | None) -> str:
    """A 95 % interval in per cent, with one digit."""
    if bounds is None:
        return NOTHING
    low, high = (f"{100 * bound:.1f}".removesuffix(".0") for bound in bounds)
    return f"{low} to {high}{NO_BREAK}%"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thin spaces between thousands and at most `digits` decimals."""
    if value is None:
        return NOTHING
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def queries(value: float | None) -> str:
    """A number of queries; halves, which medians have, only where they matter."""
    return number(value, 1 if value is not None and value < 100 else 0)


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.2g}{NO_BREAK}s" if seconds < 10 else f"{seconds:.0f}{NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
