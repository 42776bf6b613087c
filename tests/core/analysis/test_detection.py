"""Thresholds, rates and areas: by counting, by the closed form for normal scores, by published variances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from charpy.analysis.detection import area, detection, flagged, roc, threshold_at
from charpy.analysis.intervals import share

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30)  # few values: many ties


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(20, 0.05, 19), (100, 0.05, 95), (1000, 0.05, 950), (10, 0.05, 10), (7, 0.5, 4), (3, 0, 3)],
)
def test_the_threshold_is_the_published_order_statistic(count, rate, rank):
    """The ceil(n (1 - fpr))-th smallest legitimate score (Xu, Evans & Qi 2018)."""
    values = np.random.default_rng(0).permutation(count) + 1.0
    assert threshold_at(values, rate) == rank


@given(scores, st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9]))
def test_no_more_than_the_rate_is_flagged_and_no_lower_threshold_does_that(values, rate):
    threshold = threshold_at(values, rate)
    assert flagged(values, threshold).count <= len(values) * rate + 1e-9
    lower = [value for value in values if value < threshold]
    if lower:
        assert flagged(values, max(lower)).count > len(values) * rate


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_and_that_under_the_curve(clean, adversarial):
    pairs = [(one > other) + 0.5 * (one == other) for one in adversarial for other in clean]
    found = area(clean, adversarial)
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    curve = roc(clean, adversarial)
    assert np.trapezoid(curve.true_positives, curve.false_positives) == pytest.approx(found.value)
    assert area(adversarial, clean).value == pytest.approx(1 - found.value)


@given(scores, scores)
def test_every_point_of_the_curve_is_a_count(clean, adversarial):
    curve = roc(clean, adversarial)
    for threshold, false, true in zip(*curve, strict=True):
        assert false == pytest.approx(sum(value > threshold for value in clean) / len(clean))
        assert true == pytest.approx(sum(value > threshold for value in adversarial) / len(adversarial))
    assert (curve.false_positives[0], curve.true_positives[0]) == (0, 0)
    assert (curve.false_positives[-1], curve.true_positives[-1]) == (1, 1)
    assert curve.thresholds == sorted(curve.thresholds, reverse=True)


def test_the_area_is_that_of_mann_and_whitney():
    random = np.random.default_rng(1)
    clean, adversarial = random.normal(size=200), random.normal(1, 2, size=150)
    statistic = stats.mannwhitneyu(adversarial, clean).statistic
    assert area(clean, adversarial).value == pytest.approx(statistic / (200 * 150))


@pytest.mark.parametrize(
    ("shift", "clean", "adversarial"), [(0.5, 60, 40), (2.0, 60, 40), (3.0, 100, 30), (3.0, 25, 25)]
)
def test_the_interval_covers_the_area_of_normal_scores(shift, clean, adversarial):
    """P(score of an adversarial image > that of a clean one) = Phi(shift / sqrt 2)."""
    true, random = stats.norm.cdf(shift / math.sqrt(2)), np.random.default_rng(2)
    found = [area(random.normal(size=clean), random.normal(shift, size=adversarial)) for _ in range(400)]
    covered = sum(low <= true <= high for _, low, high in found) / 400
    assert 0.92 <= covered <= 0.995


def test_the_interval_is_about_as_wide_as_the_published_standard_error():
    """Of 58 normal and 51 abnormal images an area of 0.893 has the standard error 0.032 (Hanley & McNeil 1982)."""
    from charpy.analysis.detection import _interval

    low, high = _interval(0.893, 58, 51)
    assert (high - low) / (2 * 1.96) == pytest.approx(0.032, rel=0.05)


def test_perfect_detection_is_still_uncertain():
    few, many = area([0.0] * 10, [1.0] * 10), area([0.0] * 1000, [1.0] * 1000)
    assert few.value == few.high == many.value == 1
    assert 0.7 < few.low < 0.9
    assert 0.995 < many.low < 1
    assert area([1.0] * 10, [1.0] * 10).value == 0.5


def test_the_four_kinds_of_images_play_their_parts():
    found = detection([0.1] * 95 + [0.9] * 5, [0.0] * 90 + [1.0] * 10, [0.5, 0.05, 2.0], [0.0, 0.2])
    assert found.threshold == 0.1
    assert found.false_positives == share(10, 100)
    assert found.successful == share(2, 3)
    assert found.failed == share(1, 2)
    assert found.area.value == area([0.0] * 90 + [1.0] * 10, [0.5, 0.05, 2.0]).value
    assert found.roc.false_positives[1] == 0
    nothing = detection([0.1], [0.2], [], [])
    assert (nothing.roc, nothing.area, nothing.successful.value) == (None, None, None)
    assert detection([0.0, 1.0], [0.5], [0.5], [], rate=0.5).threshold == 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: threshold_at([]), "got none"),
        (lambda: threshold_at([1.0], 1.0), "within"),
        (lambda: roc([], [1.0]), "0 clean"),
        (lambda: area([1.0], []), "0 adversarial"),
        (lambda: flagged([1.0, math.nan], 0), "1 of 2 scores are NaN"),
    ],
)
def test_what_has_no_answer_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
