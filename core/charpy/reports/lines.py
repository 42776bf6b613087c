"""Lines of a chart that have no colour of their own, such as models and attacks, and their entries in its legend."""

from __future__ import annotations

from typing import NamedTuple

from charpy.reports.charts import CYCLE

DASHES = ([1, 0], [7, 4], [3, 3], [10, 3, 3, 3])
"""Beside the colour, so that two lines can be told apart without it."""


class Line(NamedTuple):
    """One entry of a legend: what it names, the number of its colour, the dashes of its line."""

    title: str
    colour: int
    dashes: str


def line(title: str, place: int) -> Line:
    """The line number `place`, from 0; its colour is number 1..8."""
    dashes = DASHES[place % len(DASHES)]
    return Line(title, place % len(CYCLE) + 1, " ".join(map(str, dashes)) if dashes[1] else "none")
