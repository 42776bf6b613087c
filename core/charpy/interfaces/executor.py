"""The executor contract: where units of work are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from charpy.interfaces.component import Component

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")


class Lost(NamedTuple):
    """A unit that could not be computed: who tried it died or hung, and so did who tried it again."""

    why: str


class Executor(Component, ABC):
    """Computes units; the driver alone writes their results.

    Attributes:
        alive: called now and then while an executor only waits: the run is not hanging.
        unit_seconds: how long one unit may take, as `limits` in the spec says; None for any time.
    """

    alive: Callable[[], None] = staticmethod(lambda: None)
    unit_seconds: float | None = None

    @abstractmethod
    def map(self, compute: Callable[[Unit], Outcome], units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome | Lost]]:
        """Each unit with its result, in the order of `units`; a result is yielded as soon as it is there.

        `compute` can be pickled, for another process to unpickle it once and call it often. What it raises is raised.
        """

    def close(self) -> None:
        """Give back what was taken: the run is over."""
