"""The stages of a run, announced one by one: what a process that dies, or hangs, was doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Kind = Literal["open", "clean", "unit", "proof", "drill", "redraw", "close", "verify"]

NEEDED: frozenset[Kind] = frozenset({"open", "close"})
"""Without these there is no evidence at all; any other stage can be lost on its own."""


class Stage(NamedTuple):
    """One piece of work; equal ones are the same work."""

    kind: Kind
    title: str
    key: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Where a run stands: units done and planned, the share of the current unit that is settled, what it is."""

    done: int
    planned: int
    share: float
    title: str


class Watch:
    """Nobody watches, and nothing is given up; a supervisor's is told, and knows what killed a process before."""

    def enter(self, stage: Stage) -> str:
        """Say that `stage` begins; returns why it must be given up instead, '' where it may be tried."""
        return ""
