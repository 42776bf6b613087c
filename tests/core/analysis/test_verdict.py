from __future__ import annotations

import numpy as np
import pytest

from charpy.analysis.document import ThreatPart
from charpy.analysis.grade import Grade
from charpy.analysis.levels import safe_parts, threat_parts
from charpy.analysis.outcomes import Outcomes
from charpy.analysis.verdict import change, percent, status_of, verdict
from charpy.outcome import Outcome

VALID = status_of(100, {}, 0, finished=True)


def threats(
    norm: str,
    broken: dict[int, int],
    *,
    correct: int = 97,
    samples: int = 100,
    proven: int = 0,
    grades: dict[int, Grade] | None = None,
) -> list[ThreatPart]:
    order = list(Outcome)
    columns = []
    for count in broken.values():
        column = [Outcome.CLEAN_ERROR] * (samples - correct) + [Outcome.BROKEN] * count + [Outcome.PROVEN] * proven
        columns.append([order.index(o) for o in column + [Outcome.HELD] * (samples - len(column))])
    matrix = np.array(columns, np.uint8).T
    nothing = np.zeros(matrix.shape, bool)
    outcomes = Outcomes(norm, tuple(broken), matrix, nothing, nothing)
    graded = {th: Grade("supported") for th in broken} | (grades or {})
    return list(threat_parts(outcomes, goal="untargeted", queries=10, costs={}, grades=graded))


def sentence(parts: list[ThreatPart], status=VALID, samples: int = 100, correct: int = 97) -> str:
    return verdict(status, samples, correct, parts, safe_parts(parts, valid=status.value == "valid"))


def test_both_norms_break_at_their_first_level() -> None:
    assert sentence(threats("l0", {1: 23, 3: 50}) + threats("linf", {1: 5, 3: 60})) == (
        "97 of 100 images are classified correctly; changing one pixel breaks 23 of them (24 %) and changing every "
        "value by at most 1/255 breaks 5 (5 %), so the model is neither 1-pixel-safe nor 1-threshold-safe."
    )


def test_one_norm_holds_at_first() -> None:
    text = sentence(threats("l0", {1: 0, 3: 4}) + threats("linf", {1: 5, 3: 60}))
    assert "changing up to 3 pixels breaks 4 of them (4 %)" in text
    assert text.endswith(
        "so the model is not 1-threshold-safe, and it was not broken by these attacks when changing one pixel, "
        "which is not a proof."
    )


def test_nothing_broken_is_not_robust() -> None:
    text = sentence(threats("l0", {1: 0, 3: 0}) + threats("linf", {1: 0, 10: 0}))
    assert "not broken by these attacks when changing up to 3 pixels or changing every value by at most 10/255" in text
    assert "not a proof" in text
    assert "robust" not in text


def test_proven_is_said_of_these_images_only() -> None:
    text = sentence(threats("linf", {1: 0}, proven=97))
    assert text.endswith("so the model is proven 1-threshold-safe on these images.")


def test_one_unproven_image_is_enough_for_not_broken() -> None:
    assert "proven" not in sentence(threats("linf", {1: 0}, proven=96)).replace("not a proof", "")


@pytest.mark.parametrize(
    ("invalid", "value"), [({}, "valid"), ({"NaN": 1}, "valid"), ({"NaN": 2}, "invalid"), ({"a": 1, "b": 1}, "invalid")]
)
def test_more_than_one_in_a_thousand_invalid_samples_spoil_the_run(invalid: dict[str, int], value: str) -> None:
    status = status_of(1000, invalid, 0, finished=True)
    assert status.value == value
    assert all(reason in status.reason for reason in invalid)


def test_an_invalid_run_has_no_verdict_and_nothing_safe() -> None:
    status = status_of(100, {"NaN in the scores": 7, "crashed": 5}, 0, finished=True)
    parts = threats("l0", {1: 0, 3: 2})
    assert sentence(parts, status) == (
        "No verdict: 12 of 100 samples are invalid (7 x NaN in the scores; 5 x crashed)."
    )
    bases = [part.basis for part in safe_parts(parts, valid=False)]
    assert bases == ["no evidence", "no"]


def test_a_contradicted_certificate_makes_the_run_unsound_whatever_else() -> None:
    status = status_of(100, {"NaN": 50}, 2, finished=True)
    assert status.value == "unsound"
    assert "unsound" in sentence(threats("l0", {1: 0}), status)


def test_nothing_to_say_of_nothing() -> None:
    empty = status_of(0, {}, 0, finished=True)
    assert (empty.value, sentence(threats("l0", {1: 0}, correct=0, samples=0), empty, 0, 0)) == (
        "invalid",
        "No verdict: no sample was assessed.",
    )
    parts = threats("l0", {1: 0}, correct=0)
    assert sentence(parts, correct=0).startswith("None of the 100 images is classified correctly")
    assert safe_parts(parts, valid=True)[0].basis == "no evidence"


def test_an_unfinished_run_says_so() -> None:
    status = status_of(100, {}, 0, finished=False)
    assert "unfinished" in status.reason
    assert sentence(threats("l0", {1: 23}), status).startswith("Unfinished run, so far: 97 of 100")


def test_safe_parts_rest_on_their_samples() -> None:
    first, second = safe_parts(threats("l0", {1: 0, 3: 4}), valid=True)
    assert (first.norm, first.th, first.name) == ("l0", 1, "1-pixel-safe")
    assert (first.safe, first.basis, first.samples) == (True, "not broken", 97)
    assert first.upper_bound == pytest.approx(1 - 0.05 ** (1 / 97))
    assert (second.name, second.safe, second.basis) == ("3-pixel-safe", False, "no")
    assert safe_parts(threats("linf", {10: 0}), valid=True)[0].name == "10-threshold-safe"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.237, "24 %"),
        (0.004, "0.4 %"),
        (0.0004, "0.04 %"),
        (0.9996, "99.96 %"),
        (1e-9, "0.0000 %"),
    ],
)
def test_only_nothing_is_0_and_only_all_is_100_per_cent(value: float, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("norm", "th", "text"),
    [
        ("l0", 1, "changing one pixel"),
        ("l0", 3, "changing up to 3 pixels"),
        ("linf", 8, "changing every value by at most 8/255"),
        ("l2", 128, "moving an image by an L2 distance of at most 128/255"),
        ("l1", 3060, "moving an image by an L1 distance of at most 3060/255"),
    ],
)
def test_what_a_level_does_in_words(norm: str, th: int, text: str) -> None:
    assert change(norm, th) == text


def test_three_norms_in_one_sentence() -> None:
    text = sentence(threats("l0", {1: 23}) + threats("linf", {1: 5}) + threats("l2", {32: 9}))
    assert "breaks 23 of them (24 %), changing every value by at most 1/255 breaks 5 (5 %) and moving an image" in text
    assert text.endswith("so the model is neither 1-pixel-safe nor 1-threshold-safe nor 32-l2-safe.")
    held = sentence(threats("l0", {1: 0}) + threats("linf", {1: 0}) + threats("l2", {32: 0}))
    assert (
        "when changing one pixel, changing every value by at most 1/255 or moving an image by an L2 distance of "
        "at most 32/255, which is not a proof" in held
    )
    proven = sentence(threats("l1", {510: 0}, proven=97) + threats("l2", {32: 0}, proven=97))
    assert proven.endswith("so the model is proven 510-l1-safe and 32-l2-safe on these images.")


WEAK = Grade("weak", ("all gradients of pgd are zero", "something else"))


def test_a_weak_figure_says_so_with_its_first_reason() -> None:
    text = sentence(threats("linf", {1: 0, 3: 0}, grades={3: WEAK}))
    assert text.endswith("which is not a proof; this is weak evidence: all gradients of pgd are zero.")


def test_weak_figures_name_their_norms() -> None:
    other = Grade("weak", ("square fell late",))
    both = threats("l0", {1: 3}, grades={1: WEAK}) + threats("linf", {1: 5}, grades={1: other})
    assert sentence(both).endswith(
        "; this is weak evidence: under L0 all gradients of pgd are zero and under Linf square fell late."
    )
    same = threats("l0", {1: 3}, grades={1: WEAK}) + threats("linf", {1: 5}, grades={1: WEAK})
    assert sentence(same).endswith("; this is weak evidence: under L0 and Linf all gradients of pgd are zero.")


def test_a_weak_figure_that_the_sentence_does_not_name_is_left_to_the_table() -> None:
    assert "weak" not in sentence(threats("linf", {1: 5, 3: 40}, grades={3: WEAK}))


def test_figures_without_meaning_leave_no_verdict() -> None:
    none = Grade("invalid", ("the model's answer to an image depends on the rest of its batch",))
    parts = threats("linf", {1: 0, 3: 0}, grades={1: none, 3: none})
    assert sentence(parts) == "No verdict: the model's answer to an image depends on the rest of its batch."
    assert {part.basis for part in safe_parts(parts, valid=True)} == {"no evidence"}
