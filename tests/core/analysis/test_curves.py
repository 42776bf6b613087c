from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charpy.analysis.curves import auc_part, searched_auc_part
from charpy.analysis.document import MinimalPart
from charpy.analysis.minimal import minimal_part
from charpy.analysis.outcomes import Evidence, Outcomes, outcomes_of

WHOLE = tuple(range(1, 128))


def evidence_of(smallest: list[float]) -> Evidence:
    """Correctly classified samples, attacked at the last level, of which number i has a witness at smallest[i]."""
    samples = len(smallest)
    hit = [i for i in range(samples) if np.isfinite(smallest[i])]
    everyone = np.arange(samples)
    return Evidence(
        np.ones(samples, bool),
        np.ones(samples, bool),
        (np.array(hit, np.int64), np.array([127] * len(hit), np.int64), np.array([smallest[i] for i in hit], float)),
        (np.array([], np.int64), np.array([], np.int64)),
        (everyone, np.full(samples, 127)),
    )


def broken_at(smallest: list[float], levels: tuple[int, ...]) -> Outcomes:
    """Outcomes of correctly classified samples of which number i is broken from level smallest[i] on."""
    return outcomes_of("linf", levels, evidence_of(smallest))


def test_area_by_hand() -> None:
    # 4 samples, broken from 1, 3, 10 on, and never: 3 stand at th = 1, 2 at 3, 2 at 5, 1 at 10.
    area = auc_part(broken_at([1, 3, 10, np.inf], (1, 3, 5, 10)), 4)
    assert area.value == pytest.approx((3 + 2) / 2 * 2 + (2 + 2) / 2 * 2 + (2 + 1) / 2 * 5)
    assert area.normalised == pytest.approx(16.5 / (4 * 9))
    assert (area.first, area.last, area.samples, area.whole_range) == (1, 10, 4, False)


def test_the_paper_s_tables_agree_with_this_reading() -> None:
    # WideResNet under the threshold attack: 15, 97, 98 and 100 % at th 1, 3, 5, 10 (Table III), AUC 141.5 (Table V).
    smallest = [1] * 15 + [3] * 82 + [5] + [9] * 2
    outcomes = broken_at([float(th) for th in smallest], WHOLE)
    standing = dict(zip(WHOLE, outcomes.counts("held"), strict=True))
    assert [100 - standing[th] for th in (1, 3, 5, 10)] == [15, 97, 98, 100]
    area = auc_part(outcomes, 100)
    assert area.value == 141.5
    assert area.whole_range


@given(st.lists(st.one_of(st.integers(1, 127).map(float), st.just(float("inf"))), min_size=1, max_size=20))
def test_area_by_adding_up_strips(smallest: list[float]) -> None:
    area = auc_part(broken_at(smallest, WHOLE), len(smallest))
    strips = sum(0.5 * (th < s) + 0.5 * (th + 1 < s) for s in smallest for th in range(1, 127))
    assert area.value == pytest.approx(strips)
    assert 0 <= area.normalised <= 1


@given(st.lists(st.one_of(st.floats(0.1, 127), st.just(float("inf"))), min_size=1, max_size=20))
def test_the_area_of_a_search_is_that_over_every_level(smallest: list[float]) -> None:
    few = outcomes_of("linf", (1, 3, 127), evidence_of(smallest), search=True)
    area = searched_auc_part(few, evidence_of(smallest), len(smallest))
    assert area == auc_part(broken_at(smallest, WHOLE), len(smallest))
    assert area.whole_range


def test_the_area_of_a_search_over_a_million_levels() -> None:
    # Two samples over 1..1,000,000 that break at 4 and never: 2, 2, 2 and then 1 stand.
    found = evidence_of([4.0, np.inf])
    area = searched_auc_part(outcomes_of("l1", (1, 510, 1_000_000), found, search=True), found, 2)
    assert area.value == 2 + 2 + 1.5 + (1_000_000 - 4)
    assert searched_auc_part(outcomes_of("l0", (1,), found, search=True), found, 2) is None


@pytest.mark.parametrize(("smallest", "levels"), [([1.0], (3,)), ([], (1, 3))])
def test_no_area_over_one_level_or_without_samples(smallest: list[float], levels: tuple[int, ...]) -> None:
    assert auc_part(broken_at(smallest, levels), len(smallest)) is None


def searched(smallest: list[float]) -> MinimalPart:
    return minimal_part(outcomes_of("l2", (1, 32, 127), evidence_of(smallest), search=True), evidence_of(smallest))


def test_smallest_levels_count_the_unbroken_as_larger_than_any() -> None:
    part = searched([2.0, 1.2, 7.0, np.inf, np.inf])
    assert part.counts == {2: 2, 7: 1}
    assert (part.samples, part.broken, part.median) == (5, 3, 7.0)
    assert part.quartiles == (2.0, None)


def test_no_median_when_most_are_unbroken() -> None:
    part = searched([2.0, np.inf, np.inf])
    assert part.median is None


def test_smallest_levels_of_nothing() -> None:
    part = searched([])
    assert (part.samples, part.broken, part.median, part.quartiles, part.counts) == (0, 0, None, (None, None), {})
