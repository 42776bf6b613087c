from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charpy.analysis.agreement import agreement_parts
from charpy.analysis.grade import Grade
from charpy.analysis.levels import threat_parts
from charpy.analysis.outcomes import CODES, Evidence, Outcomes, outcomes_of, smallest_levels
from charpy.outcome import Outcome

LEVELS = (1, 3, 5, 10)


def evidence(samples=1, valid=None, correct=None, witnesses=(), invalid=(), attacked=None, proven=None) -> Evidence:
    everyone = [(position, th) for position in range(samples) for th in LEVELS]
    return Evidence(
        valid=np.array([True] * samples if valid is None else valid, bool),
        correct=np.array([True] * samples if correct is None else correct, bool),
        witnesses=(
            np.array([w[0] for w in witnesses], np.int64),
            np.array([w[1] for w in witnesses], np.int64),
            np.array([w[2] for w in witnesses], np.float64),
        ),
        invalid=tuple(np.array(list(invalid), np.int64).reshape(-1, 2).T),
        attacked=tuple(np.array(everyone if attacked is None else list(attacked), np.int64).reshape(-1, 2).T),
        proven=proven,
    )


def row(outcomes: Outcomes, sample: int = 0) -> list[str]:
    names = {code: outcome.value for outcome, code in CODES.items()}
    return [names[int(code)] for code in outcomes.matrix[sample]]


def test_a_witness_counts_from_its_distance_on() -> None:
    found = evidence(witnesses=[(0, 5, 3.0)])
    assert row(outcomes_of("l0", LEVELS, found)) == ["held", "broken", "broken", "broken"]


def test_without_carry_a_witness_counts_only_where_it_was_searched() -> None:
    found = evidence(witnesses=[(0, 5, 3.0)])
    assert row(outcomes_of("l0", LEVELS, found, carry=False)) == ["held", "held", "broken", "held"]


def test_without_carry_a_witness_outside_its_own_level_does_not_count() -> None:
    found = evidence(witnesses=[(0, 5, 6.0)])
    assert row(outcomes_of("l0", LEVELS, found, carry=False)) == ["held"] * 4


def test_distances_may_exceed_the_level_by_a_millionth_only() -> None:
    near, far = evidence(witnesses=[(0, 3, 3 + 5e-7)]), evidence(witnesses=[(0, 3, 3 + 2e-6)])
    assert row(outcomes_of("linf", LEVELS, near))[1] == "broken"
    assert row(outcomes_of("linf", LEVELS, far))[1] == "held"


def test_an_invalid_result_spoils_every_larger_level_but_not_a_witness() -> None:
    spoiled = evidence(invalid=[(0, 3)])
    assert row(outcomes_of("l0", LEVELS, spoiled)) == ["held", "invalid", "invalid", "invalid"]
    broken_later = evidence(invalid=[(0, 3)], witnesses=[(0, 5, 5.0)])
    assert row(outcomes_of("l0", LEVELS, broken_later)) == ["held", "invalid", "broken", "broken"]


def test_invalid_comes_before_clean_error_before_broken() -> None:
    found = evidence(samples=2, valid=[False, True], correct=[False, False], witnesses=[(0, 1, 1.0), (1, 1, 1.0)])
    outcomes = outcomes_of("l0", LEVELS, found)
    assert row(outcomes, 0) == ["invalid"] * 4
    assert row(outcomes, 1) == ["clean_error"] * 4


def test_what_was_not_attacked_has_not_held() -> None:
    outcomes = outcomes_of("l0", LEVELS, evidence(attacked=[(0, 1), (0, 3)]))
    assert row(outcomes) == ["held", "held", "invalid", "invalid"]
    assert outcomes.unattacked[0].tolist() == [False, False, True, True]


def test_an_attack_at_a_larger_level_covers_the_smaller_ones() -> None:
    # One run of an attack that finds its own radius, at the largest level, fills all of them.
    assert row(outcomes_of("l0", LEVELS, evidence(attacked=[(0, 10)]))) == ["held"] * 4
    assert row(outcomes_of("l0", LEVELS, evidence(attacked=[(0, 10)]), carry=False)) == ["invalid"] * 3 + ["held"]


def test_a_search_over_levels_is_nested_and_covers_everything() -> None:
    found = evidence(attacked=[(0, 3)], witnesses=[(0, 3, 2.0)])
    outcomes = outcomes_of("l0", tuple(range(1, 128)), found, carry=False, search=True)
    assert row(outcomes) == ["held"] + ["broken"] * 126
    assert smallest_levels(found).tolist() == [2.0]
    spoiled = outcomes_of("l0", (1, 2, 3), evidence(attacked=[(0, 2)], invalid=[(0, 2)]), search=True)
    assert row(spoiled) == ["invalid"] * 3


def test_a_certificate_holds_at_every_smaller_level() -> None:
    proven = np.array([3])
    assert row(outcomes_of("l0", LEVELS, evidence(proven=proven))) == ["proven", "proven", "held", "held"]


def test_a_certificate_needs_no_attack_but_a_witness_beats_it() -> None:
    proven = np.array([3])
    assert row(outcomes_of("l0", LEVELS, evidence(proven=proven, attacked=[])))[:2] == ["proven", "proven"]
    outcomes = outcomes_of("l0", LEVELS, evidence(proven=proven, witnesses=[(0, 3, 2.0)]))
    assert row(outcomes) == ["proven", "broken", "broken", "broken"]
    assert outcomes.contradicted[0].tolist() == [False, True, True, True]


def test_a_contradiction_is_seen_even_where_the_witness_was_searched_elsewhere() -> None:
    proven = np.array([3])
    found = evidence(proven=proven, witnesses=[(0, 10, 2.0)])
    assert outcomes_of("l0", LEVELS, found, carry=False).contradicted[0].tolist() == [False, True, True, True]


def test_a_certificate_of_a_wrongly_classified_sample_is_no_contradiction() -> None:
    found = evidence(correct=[False], proven=np.array([10]), witnesses=[(0, 1, 1.0)])
    outcomes = outcomes_of("l0", LEVELS, found)
    assert row(outcomes) == ["clean_error"] * 4
    assert not outcomes.contradicted.any()


def test_no_samples() -> None:
    nothing = evidence(samples=0, attacked=[])
    outcomes = outcomes_of("l0", LEVELS, nothing)
    assert outcomes.matrix.shape == (0, 4)
    assert outcomes.counts(Outcome.HELD) == [0, 0, 0, 0]
    assert smallest_levels(nothing).shape == (0,)


def test_the_smallest_level_is_the_first_whole_one_that_contains_the_nearest_witness() -> None:
    found = evidence(samples=5, witnesses=[(0, 255, 12.3), (0, 128, 40.0), (1, 9, 7.0), (2, 1, 0.4), (3, 9, 7 + 5e-7)])
    assert smallest_levels(found).tolist() == [13.0, 7.0, 1.0, 7.0, np.inf]


levels_ = st.sampled_from(LEVELS)
positions = st.integers(0, 4)
random_evidence = st.builds(
    lambda valid, correct, witnesses, invalid, attacked, proven: evidence(
        5, valid, [v and c for v, c in zip(valid, correct, strict=True)], witnesses, invalid, attacked, np.array(proven)
    ),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.lists(st.tuples(positions, levels_, st.sampled_from([1.0, 2.0, 3.0, 4.5, 7.0, 10.0]))),
    st.lists(st.tuples(positions, levels_)),
    st.lists(st.tuples(positions, levels_)),
    st.lists(st.sampled_from((0, *LEVELS)), min_size=5, max_size=5),
)


def slowly(found: Evidence, sample: int, th: int, carry: bool) -> str:
    """The rules of `outcomes_of`, one sample and level at a time."""
    if not found.valid[sample]:
        return "invalid"
    if not found.correct[sample]:
        return "clean_error"
    for position, searched, distance in zip(*found.witnesses, strict=True):
        if position == sample and distance <= th and (carry or (searched == th)):
            return "broken"
    if any(position == sample and level <= th for position, level in zip(*found.invalid, strict=True)):
        return "invalid"
    if found.proven[sample] >= th:
        return "proven"
    for position, level in zip(*found.attacked, strict=True):
        if position == sample and (level == th or (carry and level > th)):
            return "held"
    return "invalid"


@given(random_evidence, st.booleans())
def test_the_matrix_is_what_the_rules_say_of_each_sample(found: Evidence, carry: bool) -> None:
    outcomes = outcomes_of("l0", LEVELS, found, carry=carry)
    for sample in range(5):
        assert row(outcomes, sample) == [slowly(found, sample, th, carry) for th in LEVELS]


@given(random_evidence, st.booleans())
def test_the_five_counts_add_up_and_carried_outcomes_only_get_worse(found: Evidence, carry: bool) -> None:
    outcomes = outcomes_of("l0", LEVELS, found, carry=carry)
    grades = {th: Grade("supported") for th in LEVELS}
    for part in threat_parts(outcomes, goal="untargeted", queries=1, costs={}, grades=grades):
        assert part.clean_error + part.broken + part.held + part.proven + part.invalid == part.samples == 5
        assert 0 <= part.robust_accuracy.proven <= part.robust_accuracy.not_broken <= 1
    if carry:
        broken = outcomes.mask(Outcome.BROKEN).astype(int)
        assert (np.diff(broken, axis=1) >= 0).all()


@given(random_evidence, random_evidence)
def test_agreement_adds_up(first: Evidence, second: Evidence) -> None:
    pixels, steps = outcomes_of("l0", LEVELS, first), outcomes_of("linf", LEVELS, second)
    for column, part in enumerate(agreement_parts(pixels, steps)):
        assert part.only_l0 + part.only_linf + part.both + part.neither == part.samples
        assert part.only_l0 + part.both <= pixels.counts(Outcome.BROKEN)[column]
        assert part.only_linf + part.both <= steps.counts(Outcome.BROKEN)[column]


def test_at_keeps_the_asked_columns() -> None:
    outcomes = outcomes_of("l0", LEVELS, evidence(witnesses=[(0, 5, 4.0)]))
    assert row(outcomes.at((3, 10))) == ["held", "broken"]
    with pytest.raises(ValueError, match="not in"):
        outcomes.at((2,))
