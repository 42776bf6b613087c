"""Power and sample size: statsmodels, simulation, and what cannot be."""

import math

import pytest
from statsmodels.stats.power import TTestIndPower

from charpy.errors import SpecError
from charpy_plugins.study.analysis.planning import (
    Arm,
    checked_arm,
    equivalence_power,
    needed,
    power,
    simulated_power,
)


def test_variance_is_that_of_a_beta_binomial_share():
    """var = p (1 - p) / m (1 + (m - 1) rho), rho = spread^2 / (p (1 - p))."""
    p, spread, m = 0.9, 0.1, 25
    rho = spread**2 / (p * (1 - p))
    assert Arm(p, spread, 2).variance(m) == pytest.approx(p * (1 - p) / m * (1 + (m - 1) * rho))
    assert Arm(p, 0.0, 2).variance(m) == pytest.approx(p * (1 - p) / m)
    assert Arm(p, spread, 2).variance(10**9) == pytest.approx(spread**2)


@pytest.mark.parametrize("people", [12, 40, 150])
def test_power_is_that_of_statsmodels_where_variances_are_equal(people):
    """0.45 and 0.55 have one variance, so Welch's test has Student's degrees of freedom."""
    first, second = Arm(0.45, 0.1, people), Arm(0.55, 0.1, people)
    effect = 0.1 / math.sqrt(first.variance(25))
    theirs = TTestIndPower().power(effect, people, 0.05)
    assert power(first, second, questions=25, alpha=0.05) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Arm(0.95, 0.05, 73), Arm(0.92, 0.08, 59)),
        (Arm(0.91, 0.1, 36), Arm(0.84, 0.12, 31)),
        (Arm(0.8, 0.1, 40), Arm(0.8, 0.12, 60)),
    ],
)
def test_formulas_come_near_simulated_studies(first, second):
    """4,000 studies: 3 standard errors are 2.4 points at most; the rest is for shares that are not normal."""
    difference, same = simulated_power(first, second, questions=25, alpha=0.05, margin=0.1, studies=4_000, seed=3)
    assert power(first, second, questions=25, alpha=0.05) == pytest.approx(difference, abs=0.035)
    assert equivalence_power(first, second, questions=25, alpha=0.05, margin=0.1) == pytest.approx(same, abs=0.035)


@pytest.mark.parametrize("margin", [None, 0.1])
def test_needed_is_the_first_number_that_reaches_the_power(margin):
    first, second = Arm(0.95, 0.08, 0), Arm(0.92, 0.08, 0)
    found = needed(first, second, questions=25, alpha=0.05, target=0.8, margin=margin)

    def reached(people):
        arms = first._replace(participants=people), second._replace(participants=people)
        if margin is None:
            return power(*arms, questions=25, alpha=0.05)
        return equivalence_power(*arms, questions=25, alpha=0.05, margin=margin)

    assert found.participants is not None
    assert reached(found.participants - 1) < 0.8 <= reached(found.participants) == found.power


def test_more_is_needed_for_less_alpha_fewer_questions_more_spread_and_more_power():
    def people(spread=0.08, questions=25, alpha=0.05, target=0.8):
        arms = Arm(0.95, spread, 0), Arm(0.90, spread, 0)
        found = needed(*arms, questions=questions, alpha=alpha, target=target).participants
        assert found is not None
        return found

    least = people()
    assert min(people(spread=0.12), people(questions=10), people(alpha=0.05 / 3), people(target=0.9)) > least


def test_no_fewer_than_the_permutation_test_can_find_anything_with():
    """2 / C(2 n, n): 0.1 for three participants a condition, 0.0286 for four."""
    arms = Arm(0.99, 0.01, 0), Arm(0.05, 0.01, 0)
    assert needed(*arms, questions=25, alpha=0.05, target=0.8).participants == 4
    assert needed(*arms, questions=25, alpha=0.0285, target=0.8).participants == 5


def test_what_no_number_can_do_has_a_reason():
    same, apart = (Arm(0.9, 0.1, 0), Arm(0.9, 0.1, 0)), (Arm(0.9, 0.1, 0), Arm(0.75, 0.1, 0))
    assert "equal" in needed(*same, questions=25, alpha=0.05, target=0.8).reason
    assert "margin" in needed(*apart, questions=25, alpha=0.05, target=0.8, margin=0.1).reason
    near = Arm(0.9, 0.1, 0), Arm(0.8999, 0.1, 0)
    assert "more than" in needed(*near, questions=25, alpha=0.05, target=0.8).reason


def test_everyone_right_has_no_error():
    everyone, nobody = Arm(1.0, 0.0, 10), Arm(0.0, 0.0, 10)
    assert power(everyone, nobody, questions=25, alpha=0.05) == 1.0
    assert power(everyone, everyone, questions=25, alpha=0.05) == 0.0
    assert equivalence_power(everyone, everyone, questions=25, alpha=0.05, margin=0.1) == 1.0


@pytest.mark.parametrize("arm", [Arm(1.2, 0.1, 2), Arm(0.95, 0.3, 2), Arm(0.5, -0.1, 2)])
def test_participants_that_cannot_be_are_refused(arm):
    with pytest.raises(SpecError, match="benign"):
        checked_arm(arm, "benign")
