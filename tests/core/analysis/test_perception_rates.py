"""What a condition leaves out and lets in: brute force, scikit-learn's ROC, scipy's exact interval."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import auc, roc_auc_score, roc_curve

from charpy.analysis.perception.area import area, clustered_variance
from charpy.analysis.perception.rates import (
    best_threshold,
    corners,
    farness,
    rates_at,
    sweep,
    threshold_reaching,
    within,
)
from charpy.analysis.perception.usual import usual_thresholds
from charpy.interfaces.metric import Direction

INF = math.inf


def drawn(seed=0, alike=40, different=30, ties=True):
    random = np.random.default_rng(seed)
    one, other = random.normal(0, 1, alike), random.normal(0.8, 1.3, different)
    return (one.round(1), other.round(1)) if ties else (one, other)


@pytest.mark.parametrize("seed", range(4))
def test_every_threshold_by_brute_force(seed):
    alike, different = drawn(seed)
    found = sweep(alike, different)
    assert found.farness.tolist() == [-INF, *sorted({*alike.tolist(), *different.tolist()})]
    for threshold, left_out, let_in in zip(found.farness, found.left_out, found.let_in, strict=True):
        assert left_out == sum(far > threshold for far in alike)
        assert let_in == sum(far <= threshold for far in different)
    sums = {
        at: sum(far > at for far in alike) / len(alike) + sum(far <= at for far in different) / len(different)
        for at in found.farness[1:].tolist()
    }
    least = min(sums.values())
    assert best_threshold(found) == min(at for at, value in sums.items() if value <= least + 1e-12)
    for wanted in (0.05, 0.5, 0.95, 1.0):
        reached = threshold_reaching(found, wanted)
        assert np.mean(alike <= reached) >= wanted - 1e-12
        assert not any(np.mean(alike <= at) >= wanted for at in found.farness if at < reached)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("ties", [True, False])
def test_the_curve_and_its_area_are_those_of_scikit_learn(direction, ties):
    alike, different = drawn(3, ties=ties)
    sign = -1 if direction is Direction.SIMILARITY else 1
    values = sign * alike, sign * different  # as the metric gives them
    far = [farness(part, direction) for part in values]
    labels = np.r_[np.ones(len(alike)), np.zeros(len(different))]
    score = -sign * np.concatenate(values)
    let_in, kept, thresholds = roc_curve(labels, score, drop_intermediate=False)
    found = sweep(*far)
    np.testing.assert_allclose(found.let_in / found.different, let_in)
    np.testing.assert_allclose(1 - found.left_out / found.alike, kept)
    np.testing.assert_allclose(found.farness[1:], -thresholds[1:])
    few = corners(found)
    assert len(few.farness) < len(found.farness)
    exact = roc_auc_score(labels, score)
    assert auc(few.let_in / few.different, 1 - few.left_out / few.alike) == pytest.approx(exact)
    one, other = np.arange(len(alike)), np.arange(len(different))
    whole = area(*far, one, other)
    assert whole.value == pytest.approx(exact)
    assert whole.low < whole.value < whole.high
    by_hand = np.mean([(a < d) + 0.5 * (a == d) for a, d in itertools.product(*far)])
    assert whole.value == pytest.approx(by_hand)


def test_shares_have_scipys_exact_interval():
    alike, different = drawn(1)
    rates = rates_at(alike, different, 0.4)
    for share, count, total in (
        (rates.left_out, (alike > 0.4).sum(), len(alike)),
        (rates.let_in, (different <= 0.4).sum(), len(different)),
    ):
        exact = binomtest(int(count), total).proportion_ci(0.95, method="exact")
        assert (share.count, share.total, share.value) == (count, total, pytest.approx(count / total))
        assert (share.low, share.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_infinity_is_a_value_and_nan_is_none():
    # psnr: infinite between equals, so -inf as a farness; of a distance inf is the farthest.
    alike, different = np.array([-INF, -30.0, np.nan, INF]), np.array([-INF, -10.0, INF, np.nan])
    found = sweep(alike, different)
    assert found.farness.tolist() == [-INF, -INF, -30, -10, INF]
    assert found.left_out.tolist() == [3, 2, 1, 1, 0]
    assert found.let_in.tolist() == [0, 1, 1, 2, 3]
    assert (found.alike, found.different) == (3, 3)
    known = [*alike[:2].tolist(), INF]
    others = different[:3].tolist()
    expected = np.mean([(a < d) + 0.5 * (a == d) for a, d in itertools.product(known, others)])
    whole = area(np.array(known), np.array(others), np.arange(3), np.arange(3))
    assert whole.value == pytest.approx(expected)
    for at in (-INF, INF):
        for slack in (0.0, 1e-6):
            assert within(alike, at, slack).tolist() == [far <= at for far in alike]
    assert rates_at(alike, different, -INF).left_out.count == 2


def test_a_named_threshold_has_slack_for_float32_and_no_more():
    eight = np.array([8 / 255], np.float32).astype(np.float64) + 1e-8
    assert eight[0] > 8 / 255
    assert within(eight, 8 / 255).all()
    assert not within(eight, 8 / 255, slack=0.0).any()
    assert not within(np.array([8.01 / 255]), 8 / 255).any()


def test_without_pairs_of_a_look_there_is_no_area():
    some, none = np.array([0.1, 0.2]), np.array([])
    assert area(some, none, np.arange(2), np.arange(0)) is None
    assert rates_at(some, none, 0.15).let_in.value is None
    assert threshold_reaching(sweep(some, none), 1.0) == 0.2
    with pytest.raises(ValueError, match="2 alike and 0 different"):
        best_threshold(sweep(some, none))
    with pytest.raises(ValueError, match="of 0"):
        threshold_reaching(sweep(none, some), 0.5)


def test_the_variance_between_clusters_by_its_definition():
    alike, different = drawn(5, 12, 9)
    alike_of, different_of = np.arange(12) // 3 * 7, np.arange(9) // 2 * 7  # the same originals, any numbers
    value = np.mean([(a < d) + 0.5 * (a == d) for a, d in itertools.product(alike, different)])
    total = 0.0
    names = sorted({*alike_of.tolist(), *different_of.tolist()})
    for name in names:
        one = sum(np.mean([(a < d) + 0.5 * (a == d) for d in different]) - value for a in alike[alike_of == name])
        other = sum(np.mean([(a < d) + 0.5 * (a == d) for a in alike]) - value for d in different[different_of == name])
        total += (one / len(alike) + other / len(different)) ** 2
    expected = len(names) / (len(names) - 1) * total
    assert clustered_variance(alike, different, alike_of, different_of) == pytest.approx(expected)
    assert math.isnan(clustered_variance(alike, different, np.zeros(12, int), np.zeros(9, int)))


def test_the_variance_is_what_drawing_again_shows():
    """Originals with a noise that all their pairs share: pairs taken as independent would seem twice as sure."""
    random = np.random.default_rng(0)

    def study(count=60, pairs=4):
        shared = random.normal(0, 1, count).repeat(pairs)
        of = np.arange(count).repeat(pairs)
        noise = random.normal(0, 0.4, (2, count * pairs))
        return shared + noise[0], 0.7 - shared + noise[1], of, of

    drawn_areas, estimates, alone = [], [], []
    for _ in range(150):
        alike, different, one, other = study()
        drawn_areas.append(area(alike, different, one, other).value)
        estimates.append(clustered_variance(alike, different, one, other))
        alone.append(clustered_variance(alike, different, np.arange(240), 240 + np.arange(240)))
    truth = np.var(drawn_areas, ddof=1)
    assert np.mean(estimates) == pytest.approx(truth, rel=0.3)
    assert np.mean(alone) < 0.5 * truth


def test_an_area_of_one_still_has_an_interval():
    whole = area(np.zeros(10), np.ones(10), np.arange(10), np.arange(10))
    assert whole.value == 1.0
    assert 0.7 < whole.low < 0.95
    assert whole.high == 1.0


def test_usual_thresholds_by_size():
    def titles(kind, *shape):
        return [usual.title for usual in usual_thresholds(kind, shape)]

    assert titles("linf", 1, 28, 28) == ["8/255", "0.1", "0.3"]
    assert "4/255" in titles("linf", 3, 224, 224)
    assert "0.3" not in titles("linf", 3, 224, 224)
    assert titles("l2", 3, 32, 32) == ["0.5", "6"]
    assert titles("l2", 1, 28, 28) == ["4.5"]
    assert titles("ssim", 3, 32, 32) == []
    counts = {usual.value for usual in usual_thresholds("l0_features", (3, 32, 32))}
    assert counts == {int(0.049 * 3072), int(0.15 * 3072)}
    for kind in ("l0_pixels", "l0_features", "l1", "l2", "linf"):
        for shape in ((1, 8, 8), (3, 32, 32), (3, 299, 299), (1, 4, 4)):
            values = [usual.value for usual in usual_thresholds(kind, shape)]
            assert values == sorted(set(values))
            assert all(value >= 0 for value in values)
