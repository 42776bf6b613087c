"""The paper's study from simulated populations: its figures, its votes by hand, and its p against another library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import study_paper

    return study_paper


def test_the_figures_are_the_papers(script):
    zero, two, inf = script.PAPERS
    assert sum(sum(paper.participants.values()) for paper in script.PAPERS) == 399  # section 4.2
    assert (zero.images, two.images, inf.images) == (75, 100, 100)
    assert list(two.accuracies.values()) == [0.93, 0.89, 0.57]
    assert list(inf.confidences.values()) == [4.45, 3.98, 3.04]
    assert [claim.significant for claim in zero.claims] == [False, True, True]
    assert all(
        (claim.published == "p < 0.01") == claim.significant for paper in script.PAPERS for claim in paper.claims
    )


def test_populations_have_the_papers_means(script):
    paper = script.PAPERS[2]
    means = script.simulated(paper, 1.0, range(12))
    for name, accuracy in paper.accuracies.items():
        assert means.accuracy[name].shape == (12, paper.participants[name])
        for people, wanted in ((means.accuracy[name], accuracy), (means.confidence[name], paper.confidences[name])):
            assert people.mean() == pytest.approx(wanted, abs=4 * people.std() / np.sqrt(people.size))


def test_majority_votes_by_counting(script):
    random = np.random.default_rng(0)
    stimulus, label = random.integers(0, 8, (30, 5)), random.integers(0, 4, (30, 5))
    truth = random.integers(0, 4, 8)
    right = 0
    for image in range(8):
        best = Counter(label[stimulus == image].tolist()).most_common(2)
        alone = len(best) == 1 or best[0][1] > best[1][1]
        right += alone and best[0][0] == truth[image]
    assert script._majority(stimulus, label, truth) == right / 8


def test_the_papers_p_is_students(script):
    means = script.simulated(script.PAPERS[1], 2.0, range(3))
    found, adjusted = script.p_values(means, "accuracy", 200)
    for (first, second), values in found.items():
        for row in range(3):
            expected = stats.ttest_ind(means.accuracy[first][row], means.accuracy[second][row]).pvalue
            assert values[row] == pytest.approx(expected, rel=1e-6)
        assert (adjusted[first, second] <= 1).all()


def test_pooled_answers_by_a_z_test(script):
    sheet = script.Sheet("study_paper")
    script.pooled(sheet)
    rows = [line.split("|") for line in sheet.lines if line.startswith("| L")]
    for paper, row in zip(script.PAPERS, rows, strict=True):
        (a, n), (b, m) = ((paper.accuracies[name], 25 * paper.participants[name]) for name in script.NAMES[:2])
        z = (a - b) / np.sqrt(a * (1 - a) / n + b * (1 - b) / m)
        assert float(row[4]) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.8)  # one variance or two


def test_the_deviation_gives_the_published_p(script):
    n, m, gap, p = 73, 59, 0.02, 0.34
    said = script._deviation(gap, p, n, m)
    deviation = float(said.split(" ")[0]) / 100
    assert stats.ttest_ind_from_stats(0.95, deviation, n, 0.97, deviation, m).pvalue == pytest.approx(p, abs=0.02)
