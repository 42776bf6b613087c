"""Units one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from charpy.interfaces.executor import Executor, Lost, Outcome, Unit


class Inline(Executor):
    """Computes units one after the other in this process (notebooks, tests, small runs)."""

    def map(self, compute: Callable[[Unit], Outcome], units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome | Lost]]:
        """Each unit with its result, as soon as it is there; a unit is only taken when the one before is done."""
        for unit in units:
            yield unit, compute(unit)
