"""Exclusions, intervals, votes and agreement, against published examples, statsmodels and by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import fleiss_kappa

from charpy.errors import DataError
from charpy_plugins.study.analysis.accuracy import condition_part
from charpy_plugins.study.analysis.agreement import agreement
from charpy_plugins.study.analysis.exclusions import kept
from charpy_plugins.study.analysis.intervals import bootstrap_figure, mean_figure, median_figure
from charpy_plugins.study.analysis.trials import by_condition
from charpy_plugins.study.document import Exclusion
from charpy_plugins.study.responses import State

RIGHT = [(0, 0, 5), (1, 1, 4), (2, 2, 5)]


def test_flow_counts_everybody_once(study, answered):
    document = study(conditions=("benign", "other"), exclusion=Exclusion(failed_checks=1, fastest_median=1.0))
    people = {"benign": [RIGHT] * 6 + [[]] * 2, "other": [RIGHT]}
    responses = answered(
        document,
        people,
        states={"benign-0": State.STARTED, "benign-6": State.WITHDRAWN},
        checks={"benign-1": [False, False], "benign-2": [False, True], "benign-3": [False, False]},
        seconds={"benign-3": 0.5, "benign-4": 1.0},
    )
    found = kept(document, responses)
    flow = found.flow[0]
    assert (flow.joined, flow.withdrawn, flow.unfinished, flow.finished) == (8, 1, 1, 6)
    assert {one.reason: one.count for one in flow.exclusions} == {
        "failed attention checks": 2,
        "too fast": 1,
        "no answers": 1,
    }
    assert (flow.excluded, flow.included) == (3, 3)
    assert {one.participant: len(one.reasons) for one in found.excluded} == {
        "benign-1": 1,
        "benign-3": 2,
        "benign-7": 1,
    }
    assert found.excluded[0].reasons == ("failed 2 of 2 attention checks",)
    assert found.included == {"benign-2", "benign-4", "benign-5", "other-0"}
    assert found.finished - found.included == {"benign-1", "benign-3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "could not be chosen"),
        ({"confidence": 0}, "could not be chosen"),
        ({"participant": "nobody"}, "answer of nobody"),
        ({"stimulus": "0" * 16}, "stimulus of another condition"),
    ],
)
def test_answers_that_are_not_of_this_study_are_refused(study, answered, change, message):
    document = study(conditions=("benign", "other"))
    responses = answered(document, {"other": [RIGHT]})
    wrong = responses._replace(answers=(*responses.answers[1:], responses.answers[0]._replace(**change)))
    with pytest.raises(DataError, match=message):
        kept(document, wrong)


def test_participants_are_of_one_condition_of_the_study_once(study, answered):
    document = study()
    responses = answered(document, {"benign": [RIGHT]})
    twice = responses._replace(participants=responses.participants * 2)
    with pytest.raises(DataError, match="twice"):
        kept(document, twice)
    elsewhere = responses._replace(participants=(responses.participants[0]._replace(condition="gone"),))
    with pytest.raises(DataError, match="gone"):
        kept(document, elsewhere)


def test_mean_interval_is_scipys():
    means = np.random.default_rng(0).beta(5, 2, 20)
    figure = mean_figure(means, 0.0, 1.0)
    low, high = stats.t.interval(0.95, 19, means.mean(), stats.sem(means))
    assert (figure.value, figure.low, figure.high, figure.count) == pytest.approx((means.mean(), low, high, 20))
    assert mean_figure(np.array([1.0, 1.0, 0.9]), 0.0, 1.0).high == 1.0


def test_bootstrap_interval_is_scipys():
    means = np.random.default_rng(0).beta(5, 2, 40)
    figure = bootstrap_figure(means, 10_000, 0)
    theirs = stats.bootstrap((means,), np.mean, n_resamples=10_000, method="percentile", random_state=1)
    assert figure.low == pytest.approx(theirs.confidence_interval.low, abs=0.004)
    assert figure.high == pytest.approx(theirs.confidence_interval.high, abs=0.004)
    assert figure == bootstrap_figure(means, 10_000, 0) != bootstrap_figure(means, 10_000, 1)


@pytest.mark.parametrize("figure", [lambda v: mean_figure(v, 0.0, 1.0), lambda v: bootstrap_figure(v, 100, 0)])
def test_no_spread_has_a_reason_and_no_interval(figure):
    for means, value in ((np.ones(9), 1.0), (np.array([0.5]), 0.5), (np.array([]), None)):
        found = figure(means)
        assert (found.value, found.low, found.high) == (value, None, None)
        assert found.reason


@pytest.mark.parametrize(("people", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (25, 8), (100, 40)])
def test_ranks_of_the_median_are_those_of_the_tables(people, rank):
    """Conover (1999), confidence intervals of a median at 95 %: the rank of the lower end."""
    figure = median_figure(np.arange(1.0, people + 1))
    assert (figure.low, figure.high) == (rank, people + 1 - rank)
    assert stats.binom.cdf(rank - 1, people, 0.5) <= 0.025 < stats.binom.cdf(rank, people, 0.5)


def test_a_median_of_five_has_no_interval():
    figure = median_figure(np.array([3.0, 1.0, 2.0, 5.0, 4.0]))
    assert (figure.value, figure.low) == (3.0, None)
    assert "six" in figure.reason


def test_alpha_of_krippendorffs_example():
    """Krippendorff (2011), `Computing Krippendorff's alpha-reliability`, C: four observers, nominal, alpha 0.743."""
    units = ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
    counts = np.array([[unit.count(str(label)) for label in range(1, 6)] for unit in units], float)
    assert agreement(counts, 200, 0).value == pytest.approx(0.743, abs=0.0005)


def test_alpha_is_fleiss_kappa_with_its_correction():
    """With r answers for each of N stimuli: 1 - alpha = (1 - kappa) (N r - 1) / (N r)."""
    random = np.random.default_rng(4)
    counts = np.array([random.multinomial(7, random.dirichlet(np.ones(4))) for _ in range(30)])
    kappa = fleiss_kappa(counts)
    assert 1 - agreement(counts.astype(float), 200, 0).value == pytest.approx((1 - kappa) * 209 / 210)


def test_alpha_that_is_not_there_has_a_reason():
    assert "two answers" in agreement(np.eye(3), 200, 0).reason
    assert "same label" in agreement(np.array([[3.0, 0.0], [2.0, 0.0]]), 200, 0).reason
    assert "one stimulus" in agreement(np.array([[3.0, 2.0]]), 200, 0).reason


def test_agreement_without_spread_has_no_interval():
    """Everybody agrees on each stimulus: 1 in every resample. Four times 3 against 3: 1 - 23 * 14.4 / 288, always."""
    for votes, value in ((9 * np.eye(3), 1.0), (np.full((4, 2), 3.0), -0.15)):
        found = agreement(votes, 200, 0)
        assert (found.low, found.high) == (None, None)
        assert "no width" in found.reason
        assert found.value == pytest.approx(value)


def test_a_tie_is_no_majority(study, answered):
    document = study(conditions=("benign",), originals=4)
    said = {"benign": [[(0, 0, 5), (1, 1, 1), (2, 2, 3)], [(0, 0, 4), (1, 0, 3), (2, 0, 3)], [(0, 1, 3), (2, 0, 3)]]}
    responses = answered(document, said)
    arms = by_condition(document, responses, kept(document, responses).included)
    part = condition_part(document, document.conditions[0], arms["benign"], 200, 0)
    assert [one.majority for one in part.votes] == [0, None, 0, None]
    assert [one.tie for one in part.votes] == [False, True, False, False]
    assert [(one.answers, one.correct) for one in part.votes] == [(3, 2), (2, 1), (3, 1), (0, 0)]
    assert [one.confidence for one in part.votes] == [4.0, 2.0, 3.0, None]
    assert (part.majority.share.count, part.majority.share.total) == (1, 3)
    assert (part.majority.ties, part.majority.unanswered) == (1, 1)
    assert part.majority.share.low == pytest.approx(stats.binomtest(1, 3).proportion_ci(0.95, "exact").low)
    assert part.confusion == ((2, 1, 0), (1, 1, 0), (2, 0, 1))
    assert part.accuracy.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert part.confidence_counts == (1, 0, 5, 1, 1)
    assert part.participant_accuracies == pytest.approx((0, 1 / 3, 1))
    assert part.seconds.value == 4.0
