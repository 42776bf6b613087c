"""The tests on averages, against scipy, brute force and what they must not do."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from charpy_plugins.study.analysis import differences
from charpy_plugins.study.analysis.trials import Table

RANDOM = np.random.default_rng(5)
FIRST, SECOND = RANDOM.beta(9, 2, (3, 11)), RANDOM.beta(7, 2, (3, 17))


def tables(studies, people, spread, images=40, questions=20, seed=0, reaction=0.0):
    """Two conditions without a difference over images like these; `spread` of ability, on the scale of log odds."""
    random = np.random.default_rng(seed)
    difficulty = random.normal(0, 0.8, (studies, 1, images))
    found = []
    for count in people:
        shape = (studies, count, images)
        odds = 2 + difficulty + random.normal(0, spread, (studies, count, 1))
        odds = odds + random.normal(0, reaction, (studies, 1, images))
        shown = np.zeros(shape)
        np.put_along_axis(shown, random.random(shape).argsort(-1)[..., :questions], 1.0, -1)
        found.append(Table((random.random(shape) < 1 / (1 + np.exp(-odds))) * shown, shown))
    return found


@pytest.mark.parametrize(("test", "equal"), [(differences.student, True), (differences.welch, False)])
def test_t_tests_are_scipys(test, equal):
    ours = test(FIRST, SECOND)
    theirs = stats.ttest_ind(SECOND, FIRST, axis=-1, equal_var=equal)
    interval = theirs.confidence_interval(0.95)
    np.testing.assert_allclose(ours.statistic, theirs.statistic, rtol=1e-9)
    np.testing.assert_allclose(ours.p, theirs.pvalue, rtol=1e-9)
    np.testing.assert_allclose(ours.df, theirs.df, rtol=1e-9)
    np.testing.assert_allclose([ours.low, ours.high], interval, rtol=1e-9)


def test_the_sleep_data_of_student_1908():
    """As R prints them for its data set `sleep`: `t.test(extra ~ group)`, and with `var.equal = TRUE`."""
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    welch, student = differences.welch(first, second), differences.student(first, second)
    assert welch.statistic == pytest.approx(1.8608, abs=5e-5)
    assert welch.df == pytest.approx(17.776, abs=5e-4)
    assert welch.p == pytest.approx(0.07939, abs=5e-6)
    assert (-welch.high, -welch.low) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    assert student.p == pytest.approx(0.07919, abs=5e-6)


def test_every_split_is_taken_where_there_are_few():
    first, second = np.array([0.9, 0.8, 1.0, 0.7]), np.array([0.6, 0.9, 0.5, 0.4, 0.75])
    values = np.concatenate([first, second])
    found = abs(stats.ttest_ind(second, first, equal_var=False).statistic)
    splits = [set(chosen) for chosen in combinations(range(9), 4)]
    far = 0
    for chosen in splits:
        inside = np.array([at in chosen for at in range(9)])
        far += abs(stats.ttest_ind(values[inside], values[~inside], equal_var=False).statistic) >= found - 1e-9
    assert differences.permutation(first, second, 10_000, 0).p == pytest.approx(far / len(splits))


def test_drawn_splits_come_near_all_of_them():
    first, second = FIRST[0][:7], SECOND[0][:7]
    every = differences.permutation(first, second, 10_000, 0)
    drawn = differences.permutation(first, second, 3_000, 0)
    assert drawn.p == pytest.approx(float(every.p), abs=0.03)
    assert drawn.p != every.p
    assert drawn.p == differences.permutation(first, second, 3_000, 0).p
    assert drawn.p != differences.permutation(first, second, 3_000, 1).p


def test_the_permutation_interval_has_zero_outside_exactly_when_p_is_below_5_percent():
    random = np.random.default_rng(1)
    first, second = random.beta(9, 2, (300, 20)), random.beta(8, 2.6, (300, 25))
    one = differences.permutation(first, second, 1_000, 0)
    outside = (one.low > 0) | (one.high < 0)
    clear = np.abs(one.p - 0.05) > 0.003
    assert 20 < outside.sum() < 280
    assert (outside == (one.p < 0.05))[clear].all()


def test_permutation_without_spread():
    same = differences.permutation(np.ones(8), np.ones(9), 500, 0)
    assert same.p == 1.0
    apart = differences.permutation(np.ones(8), np.zeros(9), 500, 0)
    assert apart.p <= 3 / 501


def test_images_are_paired_over_those_that_both_showed():
    random = np.random.default_rng(2)
    counts = [random.integers(0, 2, (6, 15)).astype(float) for _ in range(2)]
    counts[0][:, 3] = counts[1][:, 8] = 0
    first, second = (Table(count * random.random(count.shape), count) for count in counts)
    means = [
        table.total.sum(0) / np.where(table.count.sum(0) > 0, table.count.sum(0), np.nan) for table in (first, second)
    ]
    both = np.isfinite(means[0]) & np.isfinite(means[1])
    theirs = stats.ttest_rel(means[1][both], means[0][both])
    ours = differences.images(first, second)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.df == both.sum() - 1 == 12


def test_clustered_variance_is_its_three_sums():
    """V_participants + V_originals - V_answers, by loops over single answers."""
    first, second = (table for table in tables(1, (7, 9), 0.3, images=10, questions=6, seed=4, reaction=4.0))
    first, second = Table(first.total[0], first.count[0]), Table(second.total[0], second.count[0])
    shares: dict[str, dict[object, float]] = {"person": {}, "original": {}}
    answers = 0.0
    for sign, table in ((-1, first), (1, second)):
        mean, people = table.participants().mean(), len(table.total)
        for who, what in zip(*np.nonzero(table.count), strict=True):
            part = sign * (table.total[who, what] - mean) / (6 * people)
            shares["person"][sign, who] = shares["person"].get((sign, who), 0.0) + part
            shares["original"][what] = shares["original"].get(what, 0.0) + part
            answers += part**2
    people = sum(part**2 * (7 / 6 if sign < 0 else 9 / 8) for (sign, _), part in shares["person"].items())
    originals = sum(part**2 for part in shares["original"].values()) * 10 / 9
    assert originals > answers
    assert differences.crossed(first, second).error ** 2 == pytest.approx(people + originals - answers)


def test_tost_is_two_one_sided_tests_of_scipy():
    one = differences.tost(FIRST, SECOND, 0.1)
    low = stats.ttest_ind(SECOND + 0.1, FIRST, axis=-1, equal_var=False, alternative="greater").pvalue
    high = stats.ttest_ind(SECOND - 0.1, FIRST, axis=-1, equal_var=False, alternative="less").pvalue
    np.testing.assert_allclose(one.p, np.maximum(low, high), rtol=1e-9)
    inside = (one.low > -0.1) & (one.high < 0.1)
    np.testing.assert_array_equal(inside, one.p < 0.05)


def test_tost_is_that_of_statsmodels():
    from statsmodels.stats.weightstats import ttost_ind

    p = ttost_ind(SECOND[0], FIRST[0], -0.2, 0.2, usevar="unequal")[0]
    assert differences.tost(FIRST[0], SECOND[0], 0.2).p == pytest.approx(p, rel=1e-6)


def test_levels_over_2000_studies_without_a_difference():
    """Conditions of one accuracy, participants who differ: averages keep 5 %, pooled answers and images do not."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(20):
        first, second = tables(100, (25, 38), 1.2, seed=seed)
        people = first.participants(), second.participants()
        rows = {
            "student": differences.student(*people).p,
            "welch": differences.welch(*people).p,
            "permutation": differences.permutation(*people, 500, 0).p,
            "crossed": differences.crossed(first, second).p,
            "images": differences.images(first, second).p,
            "pooled": pooled(first, second),
        }
        for name, p in rows.items():
            found.setdefault(name, []).append(p)
    rates = {name: float((np.concatenate(p) < 0.05).mean()) for name, p in found.items()}
    for name in ("student", "welch", "permutation", "crossed"):
        assert 0.04 <= rates[name] <= 0.06, (name, rates[name])
    assert rates["pooled"] > 0.2
    assert rates["images"] > 0.2


def test_images_that_react_each_in_its_own_way_need_both_clusters():
    """No difference over images like these, but one on these: only the test that knows of images keeps 5 %."""
    rates = {"welch": [], "crossed": []}
    for seed in range(10):
        first, second = tables(100, (60, 60), 0.3, images=30, seed=seed, reaction=0.8)
        rates["welch"].append(differences.welch(first.participants(), second.participants()).p < 0.05)
        rates["crossed"].append(differences.crossed(first, second).p < 0.05)
    welch, crossed = (float(np.concatenate(each).mean()) for each in rates.values())
    assert welch > 0.3
    assert 0.03 <= crossed <= 0.07


def pooled(first, second):
    """The two-proportion z test over all answers, as if they were independent."""
    n, m = first.count.sum((-1, -2)), second.count.sum((-1, -2))
    p, q = first.total.sum((-1, -2)) / n, second.total.sum((-1, -2)) / m
    both = (p * n + q * m) / (n + m)
    return 2 * stats.norm.sf(np.abs(p - q) / np.sqrt(both * (1 - both) * (1 / n + 1 / m)))
