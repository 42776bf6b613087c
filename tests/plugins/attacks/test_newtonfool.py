"""NewtonFool: its step against the paper's formula, the early stop, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.success.newtonfool import Newtonfool

GENERATOR = torch.Generator().manual_seed(8)
IMAGES = torch.rand(10, 3, 4, 4, generator=GENERATOR) * 0.3 + 0.35
WEIGHT = torch.randn(5, 3, 4, 4, generator=GENERATOR)
REAL = {"norm": Norm.L2, "grid": Grid.NONE, "radius": 1e3, "queries": 400}


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def __init__(self, weight):
        super().__init__(weight)
        self.asked = []

    def predict(self, images):
        self.asked.append(images.detach().clone())
        return super().predict(images)


def papers_step(weight: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, eta: float) -> torch.Tensor:
    """x - delta g / |g|^2, delta = min(eta |x0| |g|, 1.02 (p - 0.998/K)), in float64 through the softmax itself.

    The paper's is p - 1/K.
    """
    x = images.double().requires_grad_(True)
    probability = (x[:, None] * weight.double()).flatten(2).sum(2).softmax(1).gather(1, labels[:, None])[:, 0]
    g = torch.autograd.grad(probability.sum(), x)[0]
    slope = g.flatten(1).norm(dim=1)
    newton = 1.02 * (probability.detach() - 0.998 / len(weight))
    delta = torch.minimum(eta * images.double().flatten(1).norm(dim=1) * slope, newton)
    return (x - (delta / slope.square())[:, None, None, None] * g).detach().clamp(0, 1).float()


@pytest.mark.parametrize(("eta", "limited"), [(0.001, True), (1.0, False)])
def test_the_first_step_is_the_papers(eta, limited, attack_with):
    model = Recorder(WEIGHT * 0.1)  # probabilities away from 1, so that both limits of delta occur
    labels = model.predict(IMAGES).argmax(1)
    model.asked.clear()
    attack_with(Newtonfool(Newtonfool.Params(eta=eta, steps=1)), model, IMAGES, labels=labels, **REAL)
    expected = papers_step(model.weight, IMAGES, labels, eta)
    assert torch.equal(model.asked[0], IMAGES)
    assert torch.allclose(model.asked[1], expected, atol=1e-5)
    length = (model.asked[1] - IMAGES).flatten(1).norm(dim=1)
    at_the_limit = torch.isclose(length, eta * IMAGES.flatten(1).norm(dim=1), rtol=1e-3)
    assert bool(at_the_limit.all()) if limited else not bool(at_the_limit.any())


def test_it_stops_when_the_label_changes(attack_with):
    trial = attack_with(Newtonfool(Newtonfool.Params(line_search=0)), LinearClassifier(WEIGHT), IMAGES, **REAL)
    assert all(trial.broken)
    assert torch.equal(trial.found.queries, trial.found.queries_to_success)
    assert int(trial.found.queries.max()) < 100


def test_a_saturated_softmax_still_shows_the_way(attack_with):
    model = LinearClassifier(WEIGHT * 40)  # the gradient of the probability is 0 in float32
    assert float(model.predict(IMAGES).softmax(1).amax(1).median()) == 1.0
    assert all(attack_with(Newtonfool(), model, IMAGES, **REAL).broken)


def test_steps_bound_the_search(attack_with):
    params = Newtonfool.Params(steps=3, eta=1e-4, line_search=0)
    trial = attack_with(Newtonfool(params), LinearClassifier(WEIGHT), IMAGES, **REAL)
    assert not any(trial.broken)
    assert trial.found.queries.tolist() == [4] * 10, "three steps, and a look at where they led"


def test_eta_sets_the_pace_and_the_line_search_takes_back_what_was_too_much(attack_with):
    model = LinearClassifier(WEIGHT)
    slow, fast, back = (
        attack_with(Newtonfool(Newtonfool.Params(eta=eta, line_search=search)), model, IMAGES, **REAL)
        for eta, search in ((0.01, 0), (0.375, 0), (0.375, 6))
    )
    lengths = [(trial.found.images - IMAGES).flatten(1).norm(dim=1) for trial in (slow, fast, back)]
    assert int(fast.found.queries.sum()) < int(slow.found.queries.sum())
    assert float(lengths[0].mean()) < float(lengths[1].mean())
    assert float(lengths[2].mean()) < 0.9 * float(lengths[1].mean())


def test_a_black_image_moves_too(attack_with):
    images = torch.zeros_like(IMAGES)
    model = LinearClassifier(WEIGHT, torch.eye(5)[0] * 0.5)
    trial = attack_with(Newtonfool(), model, images, **REAL)
    assert all(trial.broken)
    size = (trial.found.images - images).flatten(1).norm(dim=1)
    optimum = model.smallest(Norm.L2, images, torch.zeros(len(images), dtype=torch.int64))
    assert float(size.mean() / optimum.mean()) < 1.3


def test_of_two_classes_it_crosses_the_boundary(attack_with):
    """There p = 1/K is the boundary itself, at which a step of the paper's length ends."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 1, 4, 4, generator=generator)
    images = torch.randint(0, 256, (64, 1, 4, 4), generator=generator) / 255
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    trial = attack_with(Newtonfool(), model, images, **REAL)
    assert all(trial.broken)
    size = (trial.found.images - images).flatten(1).norm(dim=1)
    optimum = model.smallest(Norm.L2, images, model.predict(images).argmax(1))
    assert float(size.mean() / optimum.mean()) < 1.1
