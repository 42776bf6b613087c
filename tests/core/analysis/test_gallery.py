from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from charpy.analysis.gallery import Candidate, choose

LEVELS = (1, 3, 5, 10)
candidates = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0])), max_size=40).map(
    lambda rows: [Candidate(i, label, distance) for i, (label, distance) in enumerate(rows)]
)


def test_levels_take_turns_and_classes_are_spread() -> None:
    found = [Candidate(i, label=i % 2, distance=1.0) for i in range(10)] + [Candidate(50, 0, 9.0)]
    assert choose(found, LEVELS, 4) == [0, 50, 1, 3]  # th 1, th 10, th 1, then th 1 again: class 1 was shown less


@given(candidates, st.integers(0, 20), st.randoms())
def test_the_choice_is_full_unique_and_does_not_depend_on_order(found, limit, random) -> None:
    chosen = choose(found, LEVELS, limit)
    assert len(chosen) == len(set(chosen)) == min(limit, len(found))
    shuffled = list(found)
    random.shuffle(shuffled)
    assert choose(shuffled, LEVELS, limit) == chosen


@given(candidates, st.integers(1, 20))
def test_no_level_is_left_out_while_another_shows_two_more(found, limit) -> None:
    where = {c.sample: next(th for th in LEVELS if c.distance <= th) for c in found}
    shown = Counter(where[sample] for sample in choose(found, LEVELS, limit))
    for th, there in Counter(where.values()).items():
        if shown[th] < there:
            assert max(shown.values()) <= shown[th] + 1
