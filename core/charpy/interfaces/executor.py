"""The executor contract: where units of work are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from charpy.interfaces.component import Component

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")


class Executor(Component, ABC):
    """Computes units; the driver alone writes their results."""

    @abstractmethod
    def map(self, compute: Callable[[Unit], Outcome], units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome]]:
        """Each unit with its result, in the order of `units`; a result is yielded as soon as it is there."""
