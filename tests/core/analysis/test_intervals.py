from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from charpy.analysis.intervals import clopper_pearson, share, upper_bound


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (5, 10, 0.18709, 0.81291),  # the textbook example
        (0, 10, 0.0, 0.30850),
        (10, 10, 0.69150, 1.0),
        (4, 20, 0.05733, 0.43661),  # Newcombe-style tables
        (81, 263, 0.25268, 0.36755),
    ],
)
def test_two_sided_interval_of_published_tables(count: int, total: int, low: float, high: float) -> None:
    assert clopper_pearson(count, total) == pytest.approx((low, high), abs=2e-4)


def test_upper_bound_without_a_failure_is_about_three_over_n() -> None:
    assert upper_bound(0, 100) == pytest.approx(0.0295, abs=5e-5)
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05**0.01)


def test_nothing_of_nothing_has_no_interval() -> None:
    assert clopper_pearson(0, 0) is None
    assert upper_bound(0, 0) is None
    empty = share(0, 0)
    assert (empty.value, empty.low, empty.high) == (None, None, None)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_cut_off_exactly_the_tails_of_the_binomial_distribution(case: tuple[int, int]) -> None:
    count, total = case
    low, high = clopper_pearson(count, total)
    assert low <= count / total <= high
    if count > 0:
        assert binom.sf(count - 1, total, low) == pytest.approx(0.025, abs=1e-6)
    if count < total:
        assert binom.cdf(count, total, high) == pytest.approx(0.025, abs=1e-6)
        assert binom.cdf(count, total, upper_bound(count, total)) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3)])
def test_a_count_outside_its_total_is_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of {total}"):
        clopper_pearson(count, total)
