"""Votes over random changes: shares that depend on nothing but the image, exact bounds, draws that are paid once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from scipy import stats

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.model import Model, Output
from charpy.preflight import preflight
from charpy.random import Random
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Goal, Norm, ThreatModel
from charpy.vote_certifier import VoteCertifier, lower_bound
from charpy.voting import ROWS, VotingModel, VotingParams

SHAPE = (2, 3, 3)
THREAT = ThreatModel(norm=Norm.L0, radius=1)


class Halved(VotingModel):
    """Each place is set to 0 with probability 1/2."""

    def draw(self, random, rows, draws, shape):
        return random.integers(rows, draws, 2, 1, *shape[1:]).to(torch.float32)

    def apply(self, images, changes):
        return images * changes

    def settings(self) -> Mapping[str, Any]:
        return {"share": 0.5}


class MoreThanHalf(VoteCertifier):
    """Whatever has the majority is certain."""

    norms = frozenset({Norm.L0})
    voting = Halved
    defence = "halved"

    def covered(self, model, images, bounds, threat):
        return bounds > 0.5


class Watched(LinearClassifier):
    """Remembers how many rows it was asked at once; may answer NaN where an image is dark."""

    dark = -1.0
    state = "a"

    def predict(self, images):
        self.largest = max(getattr(self, "largest", 0), len(images))
        answers = super().predict(images)
        if self.output is Output.LABELS:
            return answers
        return answers.masked_fill((images.flatten(1).sum(1) < self.dark)[:, None], torch.nan)

    def state_digest(self):
        return self.state


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(5))


def watched(output: Output = Output.LOGITS, classes: int = 4) -> Watched:
    return Watched(torch.randn(classes, *SHAPE, generator=torch.Generator().manual_seed(classes)), output=output)


def halved(base: Model, **params: Any) -> Halved:
    return Halved(base, VotingParams(**params))


def certifier(**params: Any) -> MoreThanHalf:
    return MoreThanHalf(MoreThanHalf.Params(**{"draws": 200, "draws_select": 20, **params}))


# The bound


@pytest.mark.parametrize("total", [1, 7, 100, 10_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_the_bound_is_the_share_at_which_so_many_votes_have_probability_alpha(total, alpha):
    counts = torch.tensor(sorted({0, 1, total // 3, total // 2, total - 1, total}))
    bounds = lower_bound(counts, total, alpha)
    assert bounds.dtype == torch.float64
    for count, bound in zip(counts.tolist(), bounds.tolist(), strict=True):
        if count == 0:
            assert bound == 0
        else:
            assert stats.binom.sf(count - 1, total, bound) == pytest.approx(alpha, rel=1e-6)
            assert bound == pytest.approx(stats.beta.ppf(alpha, count, total - count + 1), rel=1e-9)
    assert bounds[-1] == pytest.approx(alpha ** (1 / total))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.77, 0.999])
def test_the_bound_exceeds_the_true_share_with_probability_at_most_alpha(share):
    """The exact coverage: the probabilities of all counts whose bound is too high, added up."""
    total, alpha = 60, 0.02
    counts = torch.arange(total + 1)
    too_high = lower_bound(counts, total, alpha) > share
    assert stats.binom.pmf(counts[too_high].numpy(), total, share).sum() <= alpha
    if too_high.any():  # no other bound could be higher: that of one more vote fails too often
        one_more = lower_bound((counts + 1).clamp_max(total), total, alpha) > share
        assert stats.binom.pmf(counts[one_more].numpy(), total, share).sum() > alpha


# The model


def test_shares_are_the_votes_over_the_same_changes_for_every_image(images):
    base = watched()
    model = halved(base, draws=30)
    random = Random(0, torch.zeros(1, dtype=torch.int64)).fork("votes")
    expected = torch.zeros(len(images), 4)
    for draw in range(30):
        kept = random.integers(torch.zeros(1, dtype=torch.int64), draw, 2, 1, 3, 3)
        expected += torch.nn.functional.one_hot(base.predict(images * kept).argmax(1), 4)
    assert torch.equal(model.predict(images), expected / 30)
    assert ((expected > 0).sum(1) > 1).any()  # else it would be no vote


@pytest.mark.parametrize("output", list(Output))
def test_an_answer_depends_on_nothing_but_its_image(images, output):
    model = halved(watched(output), draws=50)
    answers = model.predict(images)
    assert torch.equal(model.predict(images), answers)
    assert torch.equal(model.predict(images.flip(0)).flip(0), answers)
    assert torch.equal(torch.cat([model.predict(image[None]) for image in images]), answers)
    assert torch.equal(answers, halved(watched(), draws=50).predict(images))  # labels and scores vote alike


@pytest.mark.parametrize("output", list(Output))
def test_the_probe_finds_it_deterministic(images, output):
    found = preflight(halved(watched(output), draws=9), images)
    assert found.output is Output.PROBABILITIES
    assert found.deterministic
    assert found.batch_invariant
    assert found.num_classes == 4
    assert found.access is (Access.SCORES if output is Output.LABELS else Access.GRADIENTS)


def test_the_model_inside_is_asked_every_draw_in_bounded_batches(images):
    base = watched()
    many = images.repeat(20, 1, 1, 1)
    halved(base, draws=7).predict(many)
    assert base.rows == 7 * len(many)
    assert base.largest <= ROWS


def test_more_draws_and_another_seed_are_another_model(images):
    few, more, other = (halved(watched(), **p) for p in ({"draws": 20}, {"draws": 21}, {"draws": 20, "seed": 1}))
    answers = [model.predict(images) for model in (few, more, other)]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    assert len({str(model.fingerprint()) for model in (few, more, other)}) == 3


def test_what_the_model_inside_says_of_itself_is_passed_on():
    base = watched()
    model = halved(base, draws=3)
    assert model.device == base.device
    assert model.num_classes == 4
    assert model.input_shape == SHAPE
    assert model.state_digest() == "a"
    assert {key: model.fingerprint()[f"base.{key}"] for key in base.fingerprint()} == dict(base.fingerprint())
    assert "3 votes" in model.notes[-1]


def test_the_gradient_is_that_of_the_mean_softmax(images):
    base = watched()
    model = halved(base, draws=600)  # several blocks
    leaf = images.clone().requires_grad_(True)
    answers = model.predict(leaf)
    assert torch.equal(answers.detach(), model.predict(images))
    weight = torch.randn(answers.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((answers * weight).sum(), leaf)
    draws = torch.arange(600)
    random = Random(0, torch.zeros(1, dtype=torch.int64)).fork("votes")
    kept = random.integers(torch.zeros_like(draws), draws, 2, 1, 3, 3).to(torch.float32)
    again = images.clone().requires_grad_(True)
    rows = (again[None] * kept[:, None]).flatten(0, 1)
    mean = base.predict(rows).softmax(1).view(600, len(images), 4).mean(0)
    (expected,) = torch.autograd.grad((mean * weight).sum(), again)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output", [Output.LABELS, Output.PROBABILITIES])
def test_a_model_without_gradients_gives_scores(images, output):
    base = watched(output)
    base.access = min(base.access, Access.SCORES)
    model = halved(base, draws=5)
    assert model.access is Access.SCORES
    assert not model.predict(images.clone().requires_grad_(True)).requires_grad


def test_an_answer_that_is_nan_makes_the_shares_nan(images):
    base = watched()
    base.dark = float(images.flatten(1).sum(1).median()) / 3
    answers = halved(base, draws=10).predict(images)
    assert answers.isnan().any()
    assert torch.equal(answers.isnan().any(1), answers.isnan().all(1))
    assert not answers.isnan().all()


@pytest.mark.parametrize("code", [-1, -2, -(2**40)])
def test_a_label_that_is_no_class_is_no_vote(images, code):
    class Refusing(LinearClassifier):
        def predict(self, images):
            return torch.where(images.flatten(1).mean(1) < 0.25, code, super().predict(images))

    base = Refusing(watched().weight, output=Output.LABELS)
    base.num_classes = 4
    answers = halved(base, draws=10).predict(images)
    assert answers.isnan().any()
    assert torch.equal(answers.isnan().any(1), answers.isnan().all(1))


@pytest.mark.parametrize("output", list(Output))
def test_no_images_have_no_votes(images, output):
    base = watched(output)
    base.num_classes = 4
    assert halved(base).predict(images[:0]).shape == (0, 4)


def test_labels_need_the_number_of_classes(images):
    base = watched(Output.LABELS)
    base.num_classes = None
    with pytest.raises(ModelError, match="num_classes"):
        halved(base).predict(images)
    assert halved(base, num_classes=6).predict(images).shape == (20, 6)
    with pytest.raises(ModelError, match="no class"):
        halved(base, num_classes=2).predict(images)


# The certifier


def test_all_levels_cost_the_draws_once(images):
    base = watched()
    model, found = halved(base), certifier()
    labels = model.predict(images).argmax(1)
    base.rows = 0
    first = found.certify(model, images, labels, THREAT)
    assert first.any()
    right = len(images) - found.detail()["other_class"]
    assert base.rows == 20 * len(images) + 200 * right
    for th in (10, 5, 3, 1):
        assert torch.equal(found.certify(model, images, labels, ThreatModel.at_level(Norm.L0, th)), first)
    assert base.rows == 20 * len(images) + 200 * right
    base.state = "b"  # the weights have changed: what was known is of another model
    found.certify(model, images, labels, THREAT)
    assert base.rows == 2 * (20 * len(images) + 200 * right)


def test_an_image_that_comes_twice_is_drawn_once(images):
    base = watched()
    twice = images[:1].repeat(3, 1, 1, 1)
    label = halved(watched()).predict(twice).argmax(1)
    found = certifier()
    bounds = found.bounds(halved(base), twice, label)
    assert base.rows == 220
    assert len(set(bounds.tolist())) == 1


def test_bounds_depend_on_neither_batch_nor_order(images):
    model = halved(watched())
    labels = model.predict(images).argmax(1)
    bounds = certifier().bounds(model, images, labels)
    assert len(set(bounds.tolist())) > 2
    assert torch.equal(certifier(batch=17).bounds(model, images, labels), bounds)
    assert torch.equal(certifier().bounds(model, images.flip(0), labels.flip(0)).flip(0), bounds)
    alone = certifier()
    each = [alone.bounds(model, image[None], label[None]) for image, label in zip(images, labels, strict=True)]
    assert torch.equal(torch.cat(each), bounds)


@pytest.mark.parametrize("change", [{"seed": 1}, {"alpha": 0.01}, {"draws": 300}])
def test_every_parameter_has_an_effect(images, change):
    model = halved(watched())
    labels = model.predict(images).argmax(1)
    bounds = certifier().bounds(model, images, labels)
    changed = certifier(**change).bounds(model, images, labels)
    assert not torch.equal(changed, bounds)
    if "alpha" in change:
        assert (changed >= bounds).all()


def test_first_draws_choose_and_others_estimate(images):
    """One first draw may choose a class that loses; then it is silent, however many draws would follow."""
    model = halved(watched())
    labels = model.predict(images).argmax(1)
    hasty = certifier(draws_select=1)
    bounds = hasty.bounds(model, images, labels)
    assert 0 < hasty.detail()["other_class"] == int((bounds == 0).sum()) < len(images)


def test_the_draws_that_estimate_are_not_those_that_chose(images):
    drawn = []

    class Spy(Halved):
        def draw(self, random, rows, draws, shape):
            drawn.append(super().draw(random, rows, draws, shape))
            return drawn[-1]

    model = Spy(watched(), VotingParams())
    label = model.predict(images[:1]).argmax(1)
    drawn.clear()
    assert certifier(draws=20).bounds(model, images[:1], label) > 0
    first, second = drawn
    assert (first != second).flatten(1).any(1).sum() > 15


def test_a_planted_wrong_label_is_never_proven(images):
    """The true majority is known from all 2^9 changes; the wrapped model's own vote may miss it where it is close."""
    base = watched(classes=2)
    model, found = halved(base), certifier()
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9))).view(-1, 1, 1, 3, 3)
    shares = base.predict((images * every).flatten(0, 1)).argmax(1).view(512, -1).to(torch.float64).mean(0)
    labels = (shares > 0.5).long()
    assert found.certify(model, images, labels, THREAT).sum() > 10
    assert (found.bounds(model, images, labels) <= torch.maximum(shares, 1 - shares)).all()
    assert not found.certify(model, images, 1 - labels, THREAT).any()


def test_an_even_vote_is_abstained_from():
    """Of a dark image and one lit pixel the vote is even: half of the changes put the pixel out."""
    base = LinearModel(torch.ones(1, 1, 1), bias=-0.5)
    images = torch.ones(40, 1, 1, 1) - torch.arange(40).view(-1, 1, 1, 1) / 100
    model, found = halved(base), certifier(draws_select=9, draws=400)
    for label in (0, 1):
        assert not found.certify(model, images, torch.full((40,), label), THREAT).any()
    detail = found.detail()
    assert detail["samples"] == 80
    assert detail["abstained"] == detail["other_class"] == 40


def test_its_detail_says_of_what_the_proof_is(images):
    found = certifier()
    assert found.detail()["samples"] == 0
    found.certify(halved(watched()), images, torch.zeros(20, dtype=torch.int64), THREAT)
    detail = found.detail()
    assert {key: detail[key] for key in ("alpha", "draws", "draws_select", "share")} == {
        "alpha": 0.001, "draws": 200, "draws_select": 20, "share": 0.5,
    }  # fmt: skip


def test_a_vote_for_nobody_counts_for_nobody(images):
    base = watched()
    model = halved(base)
    labels = model.predict(images).argmax(1)
    bounds = certifier().bounds(model, images, labels)
    base.dark, base.state = float(images.flatten(1).sum(1).median()) / 3, "dark"
    darker = certifier().bounds(model, images, labels)
    chosen = bounds > 0
    assert (darker[chosen] <= bounds[chosen]).all()
    assert (darker[chosen] < bounds[chosen]).any()


def test_it_says_what_it_cannot_certify(images):
    found, model = certifier(), halved(watched())
    labels = torch.zeros(20, dtype=torch.int64)
    assert found.supports(model, THREAT) == ""
    assert found.supports(model, THREAT.model_copy(update={"goal": Goal.TARGETED})) == ""
    assert "halved" in found.supports(watched(), THREAT)
    assert "l0" in found.supports(model, ThreatModel(norm=Norm.L2, radius=1))
    for wrong in ((watched(), THREAT), (model, ThreatModel(norm=Norm.L2, radius=1))):
        with pytest.raises(ModelError, match="cannot be certified"):
            found.certify(wrong[0], images, labels, wrong[1])


def test_parameters_are_bounded():
    assert issubclass(MoreThanHalf.Params, BaseParams)
    for wrong in ({"alpha": 0}, {"alpha": 1}, {"draws": 0}, {"draws_select": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MoreThanHalf.Params(**wrong)
    assert math.isclose(MoreThanHalf().params.alpha, 0.001)
