"""The search for each sample's smallest level does not assume that success grows with the level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charpy.levels import LevelSearch


def run(breaks: list[set[int]], *, distance=lambda th: th, last: int = 127, patience: int = 2):
    """Search samples that break exactly at the levels in `breaks`; returns the smallest witnesses and the probes."""
    search = LevelSearch(len(breaks), last=last, patience=patience)
    probes: list[list[int]] = [[] for _ in breaks]
    for _ in range(500):
        th = search.next()
        if not th.any():
            return search.smallest.tolist(), probes
        for level in sorted(set(th[th > 0].tolist())):
            which = np.flatnonzero(th == level)
            for sample in which:
                probes[sample].append(level)
            found = np.array([distance(level) if level in breaks[s] else np.inf for s in which])
            search.tell(which, np.full(len(which), level), found)
    raise AssertionError("the search does not end")


@settings(max_examples=60)
@given(st.lists(st.integers(1, 127), min_size=1, max_size=6), st.sampled_from([10, 64, 127]))
def test_finds_the_smallest_level_when_success_is_monotone(minima, last):
    smallest, probes = run([set(range(m, 128)) for m in minima], last=last)
    assert smallest == [m if m <= last else last + 1 for m in minima]
    assert max(len(p) for p in probes) <= 20, "not a scan of the whole range"


def test_a_sample_that_never_breaks_is_tried_up_to_the_last_level():
    smallest, probes = run([set()])
    assert smallest == [128]
    assert probes[0] == [1, 2, 4, 8, 16, 32, 64, 127]


def test_a_failure_above_a_success_does_not_hide_it():
    smallest, _ = run([{2, 16} | set(range(40, 128))])
    assert smallest == [2], "the climb stops at the first success, although 4 and 8 would have held"


def test_a_second_look_finds_what_the_first_look_missed():
    """Level 7 holds at the first try and breaks at the second: an attack is a search, and has luck."""
    search = LevelSearch(1)
    tries: dict[int, int] = {}
    while (th := int(search.next()[0])) > 0:
        tries[th] = tries.get(th, 0) + 1
        breaks = th >= 8 or (th == 7 and tries[7] == 2)
        search.tell(np.array([0]), np.array([th]), np.array([float(th) if breaks else np.inf]))
    assert tries[7] == 2
    assert search.smallest.tolist() == [7]


def test_a_witness_counts_at_its_own_distance():
    smallest, _ = run([set(range(16, 128))], distance=lambda th: th - 5)
    assert smallest == [11]


def test_the_final_success_is_not_lost():
    """A published implementation returns the image of the last trial that was not its best."""
    smallest, _ = run([{1} | set(range(2, 128))])
    assert smallest == [1]


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_patience_is_how_many_second_looks_fail_before_it_ends(patience):
    _, probes = run([set(range(9, 128))], patience=patience)
    below = [th for th in probes[0] if th < 9]
    assert len(below) - len(set(below)) <= patience
    _, none = run([set(range(9, 128))], patience=0)
    assert len(probes[0]) == len(none[0]) + patience


class DenseFailures:
    """The same search with a table of every level, as it is easiest to see that it is right."""

    def __init__(self, size: int, last: int, patience: int = 2) -> None:
        self.last, self.patience = last, patience
        self.smallest, self.looks = [last + 1] * size, [0] * size
        self.failed: list[set[int]] = [set() for _ in range(size)]

    def low(self, sample: int) -> int:
        return max((th for th in self.failed[sample] if th < self.smallest[sample]), default=0)

    def next(self) -> list[int]:
        levels = []
        for sample, smallest in enumerate(self.smallest):
            low = self.low(sample)
            if smallest > self.last:
                levels.append(min(max(2 * low, 1), self.last) if low < self.last else 0)
            elif smallest - low > 1:
                levels.append((low + smallest) // 2)
            else:
                again = smallest - 1 - self.looks[sample]
                levels.append(again if self.looks[sample] < self.patience and again >= 1 else 0)
        return levels

    def tell(self, sample: int, th: int, distance: float) -> None:
        closed = self.smallest[sample] - self.low(sample) <= 1
        if math.isinf(distance):
            self.failed[sample].add(th)
            self.looks[sample] += closed
        elif math.ceil(distance - 1e-6) < self.smallest[sample]:
            self.smallest[sample], self.looks[sample] = max(math.ceil(distance - 1e-6), 1), 0
        else:
            self.looks[sample] += closed


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), last=st.sampled_from([1, 16, 127, 14112, 783360]), patience=st.integers(0, 3),
    luck=st.sampled_from([0.2, 0.5, 0.8]),
)  # fmt: skip
def test_every_step_is_that_of_a_search_that_remembers_every_level(seed, last, patience, luck):
    random = np.random.default_rng(seed)
    search, dense = LevelSearch(5, last=last, patience=patience), DenseFailures(5, last, patience)
    for _ in range(60):
        th = search.next()
        assert th.tolist() == dense.next()
        asked = np.flatnonzero(th)
        found = np.where(random.random(len(asked)) < luck, th[asked] * random.uniform(0.3, 1, len(asked)), np.inf)
        search.tell(asked, th[asked], found)
        for sample, level, distance in zip(asked, th[asked].tolist(), found.tolist(), strict=True):
            dense.tell(int(sample), level, distance)
        assert search.smallest.tolist() == dense.smallest


def test_memory_does_not_grow_with_the_last_level():
    search = LevelSearch(1000, last=38_535_168)
    while (th := search.next()).any():
        asked = np.flatnonzero(th)
        search.tell(asked, th[asked], np.where(th[asked] >= 12_345_678, 12_345_678.0, np.inf))
    assert set(search.smallest.tolist()) == {12_345_678}
    assert search.failed.nbytes <= 1000 * 64 * 8


def test_a_witness_that_is_known_beforehand_is_searched_below():
    """As the walk tells what attacks with a radius of their own found at the last level."""
    search = LevelSearch(2, last=1000)
    search.tell(np.array([1]), np.array([1000]), np.array([300.4]))
    assert search.next().tolist() == [1, 150]
    assert search.smallest.tolist() == [1001, 301]
