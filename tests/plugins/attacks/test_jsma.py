"""JSMA: the paper's saliency map by brute force, L0 in pixels, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.success.jsma import Jsma

GENERATOR = torch.Generator().manual_seed(9)
GREY = torch.rand(10, 1, 6, 6, generator=GENERATOR).mul(255).round().div(255)
POOL = torch.rand(200, 3, 6, 6, generator=GENERATOR).mul(255).round().div(255)
REAL = {"norm": Norm.L0, "radius": 36.0, "grid": Grid.NONE, "queries": 2000}


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.asked = []

    def predict(self, images):
        self.asked.append(images.detach().clone())
        return super().predict(images)


def linear(channels: int, classes: int = 5, kind: type[LinearClassifier] = LinearClassifier) -> LinearClassifier:
    """Far from its boundaries: class 0 is ahead by some pixels' worth."""
    generator = torch.Generator().manual_seed(3)
    return kind(torch.randn(classes, channels, 6, 6, generator=generator), torch.eye(classes)[0] * 10)


COLOUR = POOL[linear(3).predict(POOL).argmax(1) == 0][:10]


def pixels(trial, images):
    return norm_of(Norm.L0, trial.found.images - images)


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_a_step_takes_the_pair_of_the_papers_saliency_map(theta, attack_with):
    blank = torch.full_like(GREY, 0.0 if theta > 0 else 1.0)  # every value has the whole way to go, as in eq. 8
    model = linear(1, kind=Recorder)
    labels = model.predict(blank).argmax(1)
    assert not labels.any()
    targets = 1 + torch.arange(10) % 4
    model.asked.clear()
    params = Jsma.Params(theta=theta, both_ways=False, restore=False, gamma=1.0)
    attack_with(Jsma(params), model, blank, labels=labels, targets=targets, **REAL)
    forward = model.weight[targets].flatten(1) * theta  # the change of each score, were a value to go theta
    others = model.weight.sum(0).flatten()[None] * theta - forward
    alpha, beta = (values[:, :, None] + values[:, None] for values in (forward, others))
    saliency = torch.where((alpha > 0) & (beta < 0), alpha * beta.abs(), 0)
    saliency.diagonal(dim1=1, dim2=2).zero_()
    best = saliency.flatten(1).argmax(1)
    second = model.asked[1][:10].flatten(1)
    for row in range(10):
        changed = (second[row] != blank[row].flatten()).nonzero()[:, 0].tolist()
        assert changed == sorted(divmod(int(best[row]), 36))
    assert torch.equal(second[second != blank.flatten(1)], torch.full((20,), float(theta > 0)))


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_it_breaks_near_the_optimum_in_pixels(images, attack_with):
    model = linear(images.shape[1])
    labels = model.predict(images).argmax(1)
    trial = attack_with(Jsma(Jsma.Params(gamma=1.0)), model, images, **REAL)
    optimum = model.smallest(Norm.L0, images, labels)
    assert all(trial.broken)
    assert bool((pixels(trial, images) >= optimum).all())
    assert float(pixels(trial, images).mean() / optimum.mean()) < 1.25


@pytest.mark.parametrize("classes", [2, 40])
def test_any_number_of_classes_for_two_queries_a_step(classes, attack_with):
    model = linear(3, classes)
    labels = model.predict(COLOUR).argmax(1)
    targets = (labels + 1) % classes
    params = Jsma.Params(gamma=1.0, restore=False)
    trial = attack_with(Jsma(params), model, COLOUR, labels=labels, targets=targets, **REAL)
    assert any(trial.broken)
    broken = torch.tensor(trial.broken)
    steps = pixels(trial, COLOUR)[broken] / 2
    assert torch.equal(trial.found.queries[broken], (2 * (steps + 1)).long())


def test_gamma_bounds_the_pixels(attack_with):
    model = linear(3)
    labels = model.predict(COLOUR).argmax(1)
    few, many = (attack_with(Jsma(Jsma.Params(gamma=g)), model, COLOUR, labels=labels, **REAL) for g in (0.05, 1.0))
    assert sum(few.broken) < sum(many.broken)
    assert float(pixels(few, COLOUR).max()) <= 2
    assert int(few.found.queries.max()) < int(many.found.queries.max())


def test_restored_witnesses_have_no_pixel_to_spare(attack_with):
    model = linear(3)
    labels = model.predict(COLOUR).argmax(1)
    bare, restored = (
        attack_with(Jsma(Jsma.Params(gamma=1.0, restore=restore)), model, COLOUR, **REAL) for restore in (False, True)
    )
    assert bool((pixels(restored, COLOUR) <= pixels(bare, COLOUR)).all())
    assert float(pixels(restored, COLOUR).sum()) < float(pixels(bare, COLOUR).sum())
    for place in range(36):
        less = restored.found.images.clone().flatten(2)
        changed = (less[:, :, place] != COLOUR.flatten(2)[:, :, place]).any(1)
        less[:, :, place] = COLOUR.flatten(2)[:, :, place]
        still = model.predict(less.view_as(COLOUR)).argmax(1) != labels
        assert not bool((changed & still).any())


def test_both_ways_and_theta_matter(attack_with):
    model = linear(3)
    labels = model.predict(COLOUR).argmax(1)

    def run(**params):
        return attack_with(Jsma(Jsma.Params(gamma=1.0, **params)), model, COLOUR, labels=labels, **REAL)

    both, up, down = run(), run(both_ways=False), run(both_ways=False, theta=-1.0)
    assert float(pixels(both, COLOUR).mean()) < float(pixels(up, COLOUR).mean())
    for trial, sign in ((up, 1), (down, -1)):
        assert any(trial.broken)
        assert bool(((trial.found.images - COLOUR) * sign >= 0).all())
    weak = run(theta=0.25)
    assert float((weak.found.images - COLOUR).abs().max()) <= 1.0
    assert float(pixels(weak, COLOUR)[torch.tensor(weak.broken)].mean()) > float(pixels(both, COLOUR).mean())


def test_more_targets_find_smaller_witnesses(attack_with):
    scale = torch.tensor([1, 0.1, 1, 1, 1])[:, None, None, None]
    model = LinearClassifier(linear(3).weight * scale, torch.tensor([10.0, 6.0, 0.0, 0.0, 0.0]))  # 1 is next, not near
    one, four = (attack_with(Jsma(Jsma.Params(gamma=1.0, targets=n)), model, COLOUR, **REAL) for n in (1, 4))
    assert float(pixels(four, COLOUR).mean()) < float(pixels(one, COLOUR).mean())


def test_a_run_ends_beyond_twice_the_radius(attack_with):
    model = linear(3)
    fields = {**REAL, "radius": 1.0}
    trial = attack_with(Jsma(Jsma.Params(gamma=1.0, targets=1)), model, COLOUR, **fields)
    assert int(trial.found.queries.max()) <= 1 + 2 * 2 + 3, "a ranking, the original and one pair, restoring two"


def test_the_last_pixel_is_changed_alone(attack_with):
    model = LinearClassifier(torch.tensor([[[[1.0]]], [[[-1.0]]]]), torch.tensor([0.0, 1.0]))
    image = torch.full((1, 1, 1, 1), 0.9)
    trial = attack_with(Jsma(), model, image, **{**REAL, "radius": 1.0})
    assert trial.broken == [True]
