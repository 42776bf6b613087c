"""The simulated population: means as asked for, by quadrature and by counting; every habit has an effect."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

from charpy.errors import SpecError, UnknownNameError
from charpy_plugins.study.calibration import confidence_level, intercept
from charpy_plugins.study.habits import Habits, draw
from charpy_plugins.study.responses import State
from charpy_plugins.study.simulation import population

PAPER = {"benign": 0.95, "imperceptible": 0.97, "perceptible": 0.03}


def questions(responses, condition):
    return [answer for answer in responses.answers if answer.condition == condition and not answer.check]


def shares(responses, condition):
    by_person = {}
    for answer in questions(responses, condition):
        by_person.setdefault(answer.participant, []).append(answer.label == answer.truth)
    return np.array([np.mean(rights) for rights in by_person.values()])


@pytest.mark.parametrize("accuracy", [0.03, 0.36, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_the_intercept_against_an_integral(accuracy, spread):
    difficulty = np.array([-2.0, 0.3, 1.1])
    level = intercept(accuracy, difficulty, spread)
    means = [
        integrate.quad(lambda a, d=d: expit(level + spread * a + d) * stats.norm.pdf(a), -9, 9)[0] for d in difficulty
    ]
    assert np.mean(means) == pytest.approx(accuracy, abs=1e-6)


def test_the_intercept_without_random_effects_is_the_logit():
    assert intercept(0.9, np.zeros(4), 0.0) == pytest.approx(logit(0.9), abs=1e-9)
    assert intercept(0.0, np.zeros(4), 1.0) == -np.inf
    assert intercept(1.0, np.zeros(4), 1.0) == np.inf


@pytest.mark.parametrize(("mean", "accuracy"), [(4.47, 0.95), (2.97, 0.57), (4.19, 0.03), (1.1, 0.5), (4.9, 0.2)])
def test_the_confidence_level_against_rounding(mean, accuracy):
    tie, deviation = 0.8, 0.9
    level = confidence_level(mean, accuracy, tie, deviation)

    def expected(shift):
        def answer(e):
            return np.clip(np.rint(level + shift + deviation * e), 1, 5) * stats.norm.pdf(e)

        edges = sorted((cut - level - shift) / deviation for cut in (1.5, 2.5, 3.5, 4.5))
        inside = [edge for edge in edges if -8 < edge < 8]
        return sum(integrate.quad(answer, a, b)[0] for a, b in zip([-8, *inside], [*inside, 8], strict=True))

    both = accuracy * expected(tie * (1 - accuracy)) + (1 - accuracy) * expected(-tie * accuracy)
    assert both == pytest.approx(mean, abs=1e-5)


def test_accuracy_and_confidence_are_as_asked(study):
    wanted = {"benign": 4.47, "imperceptible": 4.4, "perceptible": 2.97}
    found = population(study.document, PAPER, 500, seed=1, confidences=wanted)
    for name, accuracy in PAPER.items():
        own = shares(found, name)
        assert abs(own.mean() - accuracy) < 4 * own.std() / np.sqrt(500)
        sure = np.array([answer.confidence for answer in questions(found, name)]).reshape(500, -1).mean(1)
        assert abs(sure.mean() - wanted[name]) < 4 * sure.std() / np.sqrt(500)


def test_it_is_labelled_and_repeats(study):
    one = population(study.document, PAPER, {"benign": 5, "imperceptible": 3, "perceptible": 4}, seed=3)
    assert one == population(study.document, PAPER, {"benign": 5, "imperceptible": 3, "perceptible": 4}, seed=3)
    assert one.answers != population(study.document, PAPER, 4, seed=4).answers
    assert one.simulated == "accuracies 0.95, 0.97, 0.03; participants 5, 3, 4; confidences 4, 4, 4; seed 3"
    assert Counter(person.condition for person in one.participants) == {
        "benign": 5,
        "imperceptible": 3,
        "perceptible": 4,
    }
    others = population(study.document, PAPER | {"perceptible": 0.9}, dict.fromkeys(PAPER, 5), seed=3)
    assert questions(others, "benign") == questions(one, "benign")


def test_what_a_participant_sees(study):
    found = population(study.document, PAPER, 20, seed=0)
    ids = {name: {one.id for one in study.document.of(name)} for name in PAPER}
    assert len({person.id for person in found.participants}) == 60
    for person in found.participants:
        own = [answer for answer in found.answers if answer.participant == person.id]
        asked = [answer for answer in own if not answer.check]
        assert [answer.position for answer in own] == list(range(27))
        assert len(asked) == len({answer.stimulus for answer in asked}) == 25
        assert {answer.stimulus for answer in own} <= ids[person.condition]
        assert person.state is State.FINISHED
        assert person.finished == own[-1].answered
        assert person.joined < own[0].answered - own[0].seconds
        gaps = np.diff([answer.answered for answer in own])
        np.testing.assert_allclose(gaps, [answer.seconds for answer in own[1:]], atol=1e-5)


def test_every_image_is_shown_as_often_as_the_others(study):
    found = population(study.document, PAPER, 17, seed=0)
    shown = Counter(answer.stimulus for answer in questions(found, "benign"))
    assert set(shown.values()) == {14, 15}  # 17 * 25 answers to 30 images


def test_fewer_images_than_questions(make_study):
    small = make_study(originals=4, checks=0)
    found = population(small.document, PAPER, 3, seed=0)
    assert Counter(answer.participant for answer in found.answers) == {one.id: 4 for one in found.participants}


def test_wrong_answers_are_the_models_or_uniform(study):
    found = population(study.document, PAPER, 300, seed=0, misled=0.6)
    wrong = [answer for answer in questions(found, "perceptible") if answer.label != answer.truth]
    steps = Counter((answer.label - answer.truth) % 10 for answer in wrong)
    rest = [steps[step] for step in range(1, 10) if step != 3]
    expected = 0.6 + 0.4 / 9
    assert steps[3] / len(wrong) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / len(wrong)))
    assert stats.chisquare(rest).pvalue > 1e-3
    benign = [answer for answer in questions(found, "benign") if answer.label != answer.truth]
    assert stats.chisquare([Counter((a.label - a.truth) % 10 for a in benign)[s] for s in range(1, 10)]).pvalue > 1e-3


def test_the_careless_answer_at_random_fail_checks_and_are_fast(study):
    found = population(study.document, dict.fromkeys(PAPER, 1.0), 400, seed=0, careless=1.0)
    own = questions(found, "benign")
    assert np.mean([answer.label == answer.truth for answer in own]) == pytest.approx(0.1, abs=0.013)
    assert stats.chisquare(list(Counter(answer.confidence for answer in own).values())).pvalue > 1e-3
    checks = [answer for answer in found.answers if answer.check]
    assert np.mean([answer.label == answer.truth for answer in checks]) == pytest.approx(0.1, abs=0.03)
    assert np.median([answer.seconds for answer in own]) == pytest.approx(1.0, rel=0.05)
    attentive = population(study.document, PAPER, 400, seed=0, slip=0.25)
    checks = [answer for answer in attentive.answers if answer.check]
    assert np.mean([answer.label == answer.truth for answer in checks]) == pytest.approx(0.75, abs=0.04)


def test_who_drops_out_has_not_finished(study):
    found = population(study.document, PAPER, 300, seed=0, dropout=0.3)
    left = [person for person in found.participants if person.state is State.STARTED]
    assert len(left) / 900 == pytest.approx(0.3, abs=0.06)
    counts = Counter(answer.participant for answer in found.answers)
    assert all(person.finished is None and counts[person.id] < 27 for person in left)
    assert stats.kstest([counts[person.id] for person in left], stats.randint(0, 27).cdf).pvalue > 1e-3


def test_people_and_images_differ_as_asked(study):
    flat = population(study.document, dict.fromkeys(PAPER, 0.5), 400, seed=0, spread=0.0, difficulty=0.0)
    assert shares(flat, "benign").std() == pytest.approx(0.1, rel=0.15)  # binomial of 25 questions
    wide = population(study.document, dict.fromkeys(PAPER, 0.5), 400, seed=0, spread=2.0, difficulty=0.0)
    nodes = np.random.default_rng(0).standard_normal(200_000)
    ability = expit(2 * nodes)
    expected = np.sqrt(ability.var() + (ability * (1 - ability)).mean() / 25)
    assert shares(wide, "benign").std() == pytest.approx(expected, rel=0.1)


def test_images_of_one_original_share_their_difficulty(study):
    def images(condition, shared):
        found = population(
            study.document, dict.fromkeys(PAPER, 0.5), 400, seed=0, spread=0.0, difficulty=2.0, shared=shared
        )
        rights = {}
        for answer in questions(found, condition):
            rights.setdefault(answer.original, []).append(answer.label == answer.truth)
        return [np.mean(rights[name]) for name in sorted(rights)]

    assert np.corrcoef(images("benign", 1.0), images("perceptible", 1.0))[0, 1] > 0.95
    assert abs(np.corrcoef(images("benign", 0.0), images("perceptible", 0.0))[0, 1]) < 0.5


@pytest.mark.parametrize("name", [name for name in Habits.__dataclass_fields__ if name != "careless_seconds"])
def test_every_habit_has_an_effect(study, name):
    usual = population(study.document, PAPER, 10, seed=0)
    other = population(study.document, PAPER, 10, seed=0, **{name: 0.37})
    assert usual.answers != other.answers
    assert name in other.simulated


def test_two_conditions_of_one_accuracy_differ_by_chance_only(study):
    """Welch's test of participants' means keeps its level: the images are as hard, on average, in both conditions."""
    habits = Habits(spread=1.0, difficulty=1.5)
    one, other = study.document.conditions[:2]
    small = 0
    for seed in range(400):
        means = []
        for condition in (one, other):
            truth = np.array([stimulus.label for stimulus in study.document.of(condition.name)])
            drawn = draw(study.document, condition, 0.8, 30, seed=seed, confidence=4.0, habits=habits)
            means.append((drawn.label == truth[drawn.stimulus]).mean(axis=1))
        small += stats.ttest_ind(*means, equal_var=False).pvalue < 0.05
    assert 8 <= small <= 36  # binomial(400, 0.05): 20 +- 4 standard deviations


def test_what_cannot_be_is_refused(study):
    document = study.document
    with pytest.raises(UnknownNameError, match="condition 'benin'"):
        population(document, PAPER | {"benin": 0.5}, 3, seed=0)
    with pytest.raises(SpecError, match="none for perceptible"):
        population(document, {"benign": 0.5, "imperceptible": 0.5}, 3, seed=0)
    with pytest.raises(SpecError, match=r"accuracies, benign: out of range"):
        population(document, PAPER | {"benign": 1.5}, 3, seed=0)
    with pytest.raises(SpecError, match=r"confidences, benign: out of range"):
        population(document, PAPER, 3, seed=0, confidences={"benign": 0.5})
    with pytest.raises(SpecError, match="participants, benign"):
        population(document, PAPER, -1, seed=0)
    with pytest.raises(SpecError, match="seed"):
        population(document, PAPER, 3, seed=-1)
    with pytest.raises(UnknownNameError, match="habit 'spred'"):
        population(document, PAPER, 3, seed=0, spred=1.0)
    with pytest.raises(SpecError, match="dropout: out of range"):
        population(document, PAPER, 3, seed=0, dropout=1.5)
    with pytest.raises(SpecError, match="spread: not a number"):
        population(document, PAPER, 3, seed=0, spread=float("nan"))
    with pytest.raises(SpecError, match="noise: out of range"):
        population(document, PAPER, 3, seed=0, noise=0.0)
