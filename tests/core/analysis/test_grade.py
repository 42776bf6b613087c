"""The rules that turn indicators into a grade, and the course of an attack into an indicator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from charpy.analysis.document import DrillPart, IndicatorPart
from charpy.analysis.grade import grade_of
from charpy.analysis.indicators import LATE_SHARE, PACE_LIMIT, VANISHED_LIMIT, of_drill, of_trial, pace
from charpy.analysis.trials import Trial, _joined

TRIAL = Trial(
    norm="linf",
    th=3,
    covers=(3,),
    step=0,
    attack="pgd",
    kind="pgd",
    white=True,
    broken=frozenset(),
    held=10,
    successes=(),
    spent=100,
    rows=100.0,
    gradients=1000,
    vanished=0.0,
    margins=(8.0, 4.0, 3.0, 2.5, 2.4, 2.4, 2.4),
)


def indicators(trial: Trial, correct: int = 100) -> dict[str, IndicatorPart]:
    return {part.kind: part for part in of_trial(trial, correct)}


def grade(*trials: Trial, held: int = 10, invalid: str = "", extra: tuple[IndicatorPart, ...] = ()):
    parts = [part for trial in trials for part in of_trial(trial, 100)]
    return grade_of("linf", 3, held, [*parts, *extra], trials, invalid=invalid)


def test_pace_of_a_line_is_one_and_of_a_search_that_stopped_zero() -> None:
    line = [100.0 - rows for rows in (1, 3, 7, 15, 31, 63, 80)]
    assert pace(line, 80) == pytest.approx(1.0)
    assert pace([8.0, 4.0, 2.0, 2.0, 2.0], 31) == 0.0
    assert pace([5.0, 5.0, 5.0], 7) == 0.0


@pytest.mark.parametrize("rows", [1023, 1500, 5000])
def test_a_search_that_falls_evenly_over_doublings_is_below_the_limit(rows: int) -> None:
    doublings = rows.bit_length()
    assert pace([20.0 - k for k in range(doublings)], rows) < PACE_LIMIT


def test_a_last_doubling_that_has_just_begun_is_not_judged_alone() -> None:
    line = [100.0 - rows for rows in (1, 3, 7, 15, 31, 63, 66)]
    assert pace(line, 66) == pytest.approx(1.0)


@pytest.mark.parametrize("margins", [(), (3.0,), (None, None, 3.0, 2.0)])
def test_too_short_a_course_has_no_pace(margins) -> None:
    assert pace(margins, 15) is None


def test_shards_are_joined_by_the_samples_they_hold() -> None:
    courses = [{"held": 3, "margins": [4.0, 2.0, 1.0]}, {"held": 1, "margins": [8.0, 6.0]}, {"held": 0, "margins": []}]
    assert _joined(courses) == (5.0, 3.0, 2.25)
    assert _joined([{"held": 1, "margins": [None, 1.0]}, {"held": 1, "margins": [2.0, 1.0]}]) == (None, 1.0)


def test_a_minimum_norm_attack_beyond_the_boundary_is_not_judged_by_its_margin() -> None:
    found = indicators(replace(TRIAL, margins=(8.0, -1.0, -2.0, -5.0, -9.0, -14.0, -20.0), vanished=0.5))
    assert found["zero_gradients"].value is None
    assert found["loss_still_rising"].value is None
    assert not any(part.fired for part in found.values())


def test_the_limits() -> None:
    assert not indicators(replace(TRIAL, vanished=VANISHED_LIMIT))["zero_gradients"].fired
    assert indicators(replace(TRIAL, vanished=VANISHED_LIMIT + 0.01))["zero_gradients"].fired
    late = int(100 * LATE_SHARE)
    assert not indicators(replace(TRIAL, successes=(90,) * late))["more_still_helps"].fired
    assert indicators(replace(TRIAL, successes=(90,) * (late + 1)))["more_still_helps"].fired
    assert not indicators(replace(TRIAL, successes=(75,) * 50))["more_still_helps"].fired, "before the last quarter"


def test_one_late_sample_is_chance() -> None:
    assert not indicators(replace(TRIAL, successes=(90,)), correct=10)["more_still_helps"].fired
    assert indicators(replace(TRIAL, successes=(90, 91)), correct=10)["more_still_helps"].fired


def test_a_black_box_attack_is_not_asked_for_gradients_and_a_transfer_for_nothing() -> None:
    assert "zero_gradients" not in indicators(replace(TRIAL, white=False))
    assert indicators(replace(TRIAL, kind="transfer")) == {}


def test_what_left_nothing_standing_fires_nothing() -> None:
    found = indicators(replace(TRIAL, held=0, rows=0.0, gradients=0, vanished=None, margins=(), successes=(99,) * 40))
    assert {part.value for part in found.values()} == {None}


FAULTY = replace(TRIAL, step=1, attack="apgd_ce", vanished=0.9)
BLACK_BOX = replace(TRIAL, step=2, attack="square", kind="square", white=False)


def test_a_figure_rests_on_its_gradient_attacks_where_it_has_some() -> None:
    assert grade(TRIAL).value == "supported"
    assert grade(FAULTY).value == "weak"
    assert grade(TRIAL, FAULTY).value == "supported"
    assert grade(FAULTY, BLACK_BOX).value == "weak"
    assert grade(BLACK_BOX).value == "supported"
    assert grade(FAULTY, held=0).value == "supported"
    assert grade(FAULTY, TRIAL, invalid="no sample was assessed") == ("invalid", ("no sample was assessed",))


def test_a_fault_at_another_level_or_norm_says_nothing() -> None:
    assert grade(replace(FAULTY, th=5, covers=(5,)), TRIAL).value == "supported"
    assert grade(replace(FAULTY, th=5, covers=(5,))).value == "supported"
    assert grade(replace(FAULTY, norm="l2")).value == "supported"
    assert grade(replace(FAULTY, th=5, covers=(1, 3, 5))).value == "weak"


def test_two_attacks_of_one_name_are_told_apart() -> None:
    assert grade(replace(FAULTY, attack="pgd"), TRIAL).value == "supported"


def drill(found: int, planted: int = 8, failure: str = "") -> DrillPart:
    return DrillPart(
        norm="linf", th=3, step=0, attack="pgd", access="GRADIENTS", planted=planted, found=found, failure=failure
    )


@pytest.mark.parametrize(("found", "fires"), [(8, False), (6, False), (5, True), (0, True)])
def test_three_quarters_of_what_is_planted_must_be_found(found: int, fires: bool) -> None:
    part = of_drill(drill(found))
    assert part.fired is fires
    assert grade(TRIAL, extra=(part,)).value == ("weak" if fires else "supported")


def test_an_attack_that_failed_on_planted_examples_says_how() -> None:
    assert "attack pgd failed: KeyError" in of_drill(drill(0, failure="attack pgd failed: KeyError")).finding
    assert of_drill(drill(0, planted=0)).value is None
