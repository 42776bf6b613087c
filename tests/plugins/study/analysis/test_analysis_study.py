"""The whole analysis: known populations, degenerate studies, sentences, and the refusal to pool."""

import json
import math
import sys

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from charpy.errors import PluginError, SpecError
from charpy_plugins.study.analysis import models
from charpy_plugins.study.analysis.analyse import analysed
from charpy_plugins.study.analysis.comparisons import holm
from charpy_plugins.study.analysis.document import StudyAnalysis
from charpy_plugins.study.analysis.trials import by_condition
from charpy_plugins.study.document import Exclusion
from charpy_plugins.study.responses import Responses, State

NAMES = ("benign", "imperceptible", "perceptible")
QUICK = {"draws": 1_000, "models": False}
RIGHT = [(0, 0, 5), (1, 1, 5), (2, 2, 5)]


def published(study, people, accuracies, arms, spread):
    document = study(originals=75, questions=25, labels=tuple("0123456789"))
    right, many = (dict(zip(NAMES, values, strict=True)) for values in (accuracies, arms))
    return analysed(document, people(document, right, many, seed=4, spread=spread), **QUICK)


def test_the_papers_l0_study(study, people):
    """95, 97 and 3 % of 73, 59 and 69: perceptible is less accurate and no image is right by majority."""
    found = published(study, people, (0.95, 0.97, 0.03), (73, 59, 69), 0.1)
    alike, less = found.hypotheses
    assert [part.accuracy.value for part in found.conditions] == pytest.approx((0.95, 0.97, 0.03), abs=0.03)
    assert (alike.verdict, less.verdict) == ("supported", "supported")
    assert "not significantly less accurate" in alike.sentence
    assert "Equivalent within 10 points" in alike.sentence
    assert "significantly less accurate, by" in less.sentence
    assert alike.sentence.startswith("Of a simulated population, not of people (of a test)")
    assert found.conditions[2].majority.share.value < 0.05
    assert found.conditions[0].majority.share.value == 1.0


def test_the_papers_linf_study(study, people):
    """91, 79 and 36 % of 36, 31 and 32: both are less accurate, so one hypothesis is contradicted."""
    found = published(study, people, (0.91, 0.79, 0.36), (36, 31, 32), 0.08)
    assert [one.verdict for one in found.hypotheses] == ["contradicted", "supported"]


def test_no_difference_is_no_similarity(study, answered):
    """Few participants who differ much: neither a difference nor its absence is shown, and the sentence says so."""
    random = np.random.default_rng(0)
    document = study(conditions=NAMES[:2])
    said = {
        name: [
            [(i, i % 3 if random.random() < share else (i + 1) % 3, 3) for i in range(6)]
            for share in (0.3, 0.5, 0.9, 1)
        ]
        for name in NAMES[:2]
    }
    found = analysed(document, answered(document, said), **QUICK)
    assert found.hypotheses[0].verdict == "open"
    assert "That does not show that they are alike" in found.hypotheses[0].sentence


@pytest.mark.slow
def test_holm_is_over_the_pairs_of_one_measure_and_leaves_the_papers_test_alone(study, people):
    found = published(study, people, (0.9, 0.86, 0.8), (20, 20, 20), 0.1)
    for measure in ("accuracy", "confidence"):
        rows = [one for one in found.comparisons if one.measure == measure]
        assert [(one.first, one.second) for one in rows] == [NAMES[:2], (NAMES[0], NAMES[2]), NAMES[1:]]
        for at, test in enumerate(rows[0].tests):
            ps = [one.tests[at].p for one in rows]
            if test.role == "paper":
                assert test.method == "student"
                assert all(one.tests[at].p_holm is None for one in rows)
                assert [one.tests[at].significant for one in rows] == [p < 0.05 for p in ps]
            else:
                adjusted = multipletests(ps, method="holm")[1]
                assert [one.tests[at].p_holm for one in rows] == pytest.approx(list(adjusted))
                assert [one.tests[at].significant for one in rows] == [p < 0.05 for p in adjusted]


@pytest.mark.slow
def test_holm_is_that_of_statsmodels():
    for values in np.random.default_rng(0).beta(0.5, 3, (5, 6)):
        assert holm(list(values)) == pytest.approx(list(multipletests(values, method="holm")[1]))


def test_holm_passes_over_what_is_not_there():
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])
    assert holm([None]) == [None]


@pytest.mark.parametrize("unit", ["trials", "answers"])
def test_pooling_is_refused(study, answered, unit):
    document = study()
    responses = answered(document, {"benign": [RIGHT]})
    with pytest.raises(SpecError, match="cannot be pooled as if they were independent"):
        analysed(document, responses, unit=unit)
    with pytest.raises(SpecError, match="average over participants"):
        by_condition(document, responses, {"benign-0"}, unit=unit)


WRONG = [(0, 1, 3), (1, 2, 3), (2, 0, 3)]
DEGENERATE = {
    "nobody": {},
    "one participant": {"benign": [RIGHT]},
    "one each": {"benign": [RIGHT], "imperceptible": [WRONG], "perceptible": [RIGHT]},
    "everyone right": {name: [RIGHT] * 4 for name in NAMES},
    "all apart": {"benign": [RIGHT] * 4, "imperceptible": [RIGHT] * 4, "perceptible": [WRONG] * 4},
    "a condition of nobody": {"benign": [RIGHT, WRONG, RIGHT], "imperceptible": [RIGHT, WRONG, WRONG]},
    "no answers": {name: [[], []] for name in NAMES},
    "other originals": {"benign": [RIGHT, WRONG[:2]], "imperceptible": [[(3, 0, 1)], [(4, 0, 2), (5, 2, 3)]]},
    "one answer each": {"benign": [[(0, 0, 1)], [(0, 1, 2)]], "imperceptible": [[(0, 0, 3)], [(0, 2, 3)]]},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_a_figure_or_a_reason_and_never_nan(study, answered, case):
    document = study()
    found = analysed(document, answered(document, DEGENERATE[case]), draws=500)
    text = found.model_dump_json(by_alias=True)
    assert "NaN" not in text
    assert "Infinity" not in text
    for one in found.comparisons:
        for test in one.tests:
            assert (test.p is None) == (test.significant is None) == bool(test.reason), (case, test)
            assert test.p is None or 0 <= test.p <= 1
        assert (one.equivalence.p is None) == bool(one.equivalence.reason)
    for part in found.conditions:
        for figure in (part.accuracy, part.confidence, part.accuracy_bootstrap, part.seconds, part.agreement):
            assert (figure.low is None) == bool(figure.reason)
    assert StudyAnalysis.model_validate_json(text) == found
    assert json.loads(text)["schema"] == "charpy.study-analysis/1"


def test_all_apart_is_found_without_spread(study, answered):
    document = study()
    said = {"benign": [RIGHT] * 8, "imperceptible": [RIGHT] * 8, "perceptible": [WRONG] * 8}
    found = analysed(document, answered(document, said), **QUICK)
    assert [one.verdict for one in found.hypotheses] == ["open", "supported"]
    assert found.comparisons[1].primary.estimate == -1.0
    assert found.comparisons[1].primary.low is None


def test_one_condition_has_nothing_to_compare(study, answered):
    document = study(conditions=("benign",))
    found = analysed(document, answered(document, {"benign": [RIGHT, WRONG]}), **QUICK)
    assert found.comparisons == found.hypotheses == found.sensitivity.comparisons == ()
    assert any("nothing to compare" in note for note in found.notes)


def test_exclusions_that_decide_are_shown(study, answered):
    """Everybody who failed a check answered at random: with them, there is no difference."""
    document = study(conditions=NAMES[:2], exclusion=Exclusion(failed_checks=0))
    some = [RIGHT, RIGHT[:2] + WRONG[2:], RIGHT, RIGHT, RIGHT[:2] + WRONG[2:], RIGHT]
    said = {"benign": some + [WRONG] * 6, "imperceptible": [WRONG] * 5 + [WRONG[:2] + RIGHT[2:]] + [RIGHT] * 6}
    checks = {f"{name}-{number}": [False] for name in NAMES[:2] for number in range(6, 12)}
    found = analysed(document, answered(document, said, checks=checks), **QUICK)
    assert [one.participants for one in found.sensitivity.rows] == [6, 6, 12, 12]
    before, after = (one for one in found.sensitivity.comparisons if one.measure == "accuracy")
    assert (before.significant, after.significant) == (True, False)
    assert any(changed.startswith("accuracy, imperceptible against benign") for changed in found.sensitivity.changed)


def test_withdrawn_and_unfinished_answers_count_nowhere(study, answered):
    document = study(conditions=NAMES[:2])
    said = {"benign": [RIGHT, RIGHT, WRONG], "imperceptible": [RIGHT, WRONG, WRONG]}
    gone = answered(document, {**said, "benign": [*said["benign"], WRONG]}, states={"benign-3": State.STARTED})
    without, having = analysed(document, answered(document, said), **QUICK), analysed(document, gone, **QUICK)
    assert having.conditions == without.conditions
    assert having.comparisons == without.comparisons
    assert having.flow[0].unfinished == 1


def test_order_of_answers_and_conditions_does_not_matter(study, people):
    """The same population with the conditions of the study the other way round: same p, estimates negated."""
    document, turned = study(conditions=NAMES[:2]), study(conditions=NAMES[1::-1])
    responses = people(document, {"benign": 0.9, "imperceptible": 0.8}, {"benign": 9, "imperceptible": 12}, 0, 0.15)
    ids = {a.id: b.id for name in NAMES[:2] for a, b in zip(document.of(name), turned.of(name), strict=True)}
    other = Responses(
        responses.participants[::-1],
        tuple(answer._replace(stimulus=ids[answer.stimulus]) for answer in responses.answers[::-1]),
    )
    one, two = (analysed(d, r, draws=20_000, models=False) for d, r in ((document, responses), (turned, other)))
    for a, b in zip(one.comparisons, two.comparisons, strict=True):
        for first, second in zip(a.tests, b.tests, strict=True):
            assert first.estimate == pytest.approx(-second.estimate)
            assert first.p == pytest.approx(second.p, abs=0.01 if first.method == "permutation" else 1e-9)
    assert one.hypotheses[0].verdict == two.hypotheses[0].verdict


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"margin": 2.0}, {"confidence_margin": -1.0}, {"draws": 1}, {"seed": -1}]
)
def test_arguments_out_of_range_are_refused(study, answered, wrong):
    document = study()
    with pytest.raises(SpecError, match=next(iter(wrong))):
        analysed(document, answered(document, {}), **wrong)


def test_every_argument_has_an_effect(study, people):
    document = study(conditions=NAMES[:2])
    responses = people(document, {"benign": 0.9, "imperceptible": 0.7}, {"benign": 14, "imperceptible": 12}, 0, 0.2)
    base = analysed(document, responses, **QUICK)
    for change in ({"alpha": 0.2}, {"margin": 0.4}, {"confidence_margin": 2.0}, {"draws": 2_000}, {"seed": 1}):
        other = analysed(document, responses, **(QUICK | change))
        assert (other.comparisons, other.conditions) != (base.comparisons, base.conditions), change
    assert "mixed" in {test.method for test in analysed(document, responses, draws=500).comparisons[0].tests}


def test_mixed_model_of_a_balanced_table_is_the_t_test(study, answered):
    """Everybody answers every image, and images do not differ: the mixed model's z is Student's t of the averages."""
    random = np.random.default_rng(2)
    document = study(conditions=NAMES[:2])
    said = {
        name: [[(i, (i + (random.random() > share)) % 3, 3) for i in range(12)] for share in random.beta(4, 2, 15)]
        for name in NAMES[:2]
    }
    arms = by_condition(document, answered(document, said), {f"{name}-{i}" for name in NAMES[:2] for i in range(15)})
    fit = models.mixed(arms["benign"], arms["imperceptible"])
    means = [arms[name].means("accuracy") for name in NAMES[:2]]
    error = math.sqrt(sum(mean.var(ddof=1) / 15 for mean in means))
    assert fit.estimate == pytest.approx(means[1].mean() - means[0].mean(), abs=1e-6)
    assert fit.error == pytest.approx(error, rel=0.05)


def test_ordinal_model_of_two_values_is_a_log_odds_ratio(study, answered):
    document = study(conditions=NAMES[:2])
    high, low = [(0, 0, 5)], [(0, 0, 4)]
    said = {"benign": [high] * 12 + [low] * 8, "imperceptible": [high] * 5 + [low] * 15}
    arms = by_condition(document, answered(document, said), {f"{name}-{i}" for name in NAMES[:2] for i in range(20)})
    fit = models.ordinal(arms["benign"], arms["imperceptible"])
    assert fit.estimate == pytest.approx(math.log(5 / 15) - math.log(12 / 8), abs=1e-4)
    assert fit.error == pytest.approx(math.sqrt(1 / 12 + 1 / 8 + 1 / 5 + 1 / 15), rel=0.05)


def test_without_statsmodels_the_extra_is_named(study, answered, monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.regression.mixed_linear_model", None)
    document = study(conditions=NAMES[:2])
    responses = answered(document, {name: [RIGHT, WRONG, RIGHT] for name in NAMES[:2]})
    with pytest.raises(PluginError, match=r"charpy\[study\]"):
        analysed(document, responses, draws=500)
    assert analysed(document, responses, **QUICK).comparisons


def test_equivalence_contradicts_no_more_than_its_margin(study, people):
    """98 and 96 %, people alike: equal within 10 points, which does not say that nobody is less accurate."""
    found = published(study, people, (0.98, 0.98, 0.96), (40, 40, 40), 0.03)
    one = found.hypotheses[1]
    assert (one.condition, one.verdict) == ("perceptible", "contradicted")
    assert one.sentence.endswith("A difference within that margin may be there all the same.")
    assert "margin may be there" not in found.hypotheses[0].sentence
