"""The smallest level that breaks each sample, by a search that does not assume that success grows with the level."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from charpy.threat import DISTANCE_TOLERANCE, FIRST_LEVEL, LAST_LEVEL

Ints = NDArray[np.int64]

SLOTS = 8
"""By how many columns the table of failures grows; a doubling climb to 127 fails at most 8 times."""


@dataclass
class LevelSearch:
    """Which level to try next for each of `size` samples.

    An attack may fail at th = 8 and succeed at th = 5 (it is a search, not a proof). So: double the level until one
    breaks; halve the gap between the largest failure below and the smallest witness; then look again below the
    witness, with fresh random numbers, at `patience` levels in a row; any success starts the last two steps anew. A
    witness counts at its own distance, whatever level it was searched at, and none is ever lost.

    Attributes:
        smallest: `(size,)`, the level of each sample's nearest witness, `last + 1` where there is none.
        failed: `(size, slots)`, the levels below `smallest` that failed, in no order, 0 where a slot is free. Memory
            grows with the number of tries (logarithmic in `last`), not with `last`.
        looks: `(size,)`, how many looks below the witness have failed.
    """

    size: int
    last: int = LAST_LEVEL
    patience: int = 2
    smallest: Ints = field(init=False)
    failed: Ints = field(init=False)
    looks: Ints = field(init=False)

    def __post_init__(self) -> None:
        """Nothing tried yet."""
        self.smallest = np.full(self.size, self.last + 1)
        self.failed = np.zeros((self.size, SLOTS), dtype=np.int64)
        self.looks = np.zeros(self.size, dtype=np.int64)

    def next(self) -> Ints:
        """int64 `(size,)`: the level to try for each sample, 0 where its search is over."""
        low = self._largest_failure()
        unbroken = self.smallest > self.last
        climb = np.where(low < self.last, np.clip(2 * low, FIRST_LEVEL, self.last), 0)
        halve = (low + self.smallest) // 2
        again = self.smallest - 1 - self.looks
        look = np.where((self.looks < self.patience) & (again >= FIRST_LEVEL), again, 0)
        return np.where(unbroken, climb, np.where(self.smallest - low > 1, halve, look)).astype(np.int64)

    def tell(self, samples: Ints, th: Ints, distance: NDArray[np.float64]) -> None:
        """What trying `th` gave for `samples`, each at most once: the witness's distance in levels, infinity where it
        held.
        """
        broken = np.isfinite(distance)
        closed = self.smallest[samples] - self._largest_failure()[samples] <= 1
        self._remember(samples[~broken], th[~broken])
        self.looks[samples[~broken & closed]] += 1
        level = np.maximum(np.ceil(distance[broken] - DISTANCE_TOLERANCE), FIRST_LEVEL).astype(np.int64)
        better = level < self.smallest[samples[broken]]
        self.looks[samples[broken][better]] = 0
        self.looks[samples[broken & closed][~better[closed[broken]]]] += 1
        np.minimum.at(self.smallest, samples[broken], level)

    def _remember(self, samples: Ints, th: Ints) -> None:
        """Write failures into free slots. A failure from `smallest` on says nothing any more, so its slot is free."""
        self.failed[self.failed >= self.smallest[:, None]] = 0
        if (self.failed[samples] != 0).all(axis=1).any():
            self.failed = np.pad(self.failed, ((0, 0), (0, SLOTS)))
        self.failed[samples, (self.failed[samples] == 0).argmax(axis=1)] = th

    def _largest_failure(self) -> Ints:
        """The largest failed level below each sample's smallest witness, 0 where there is none."""
        largest: Ints = np.where(self.failed < self.smallest[:, None], self.failed, 0).max(axis=1, initial=0)
        return largest
