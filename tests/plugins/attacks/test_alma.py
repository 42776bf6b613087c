"""ALMA: the known optimum, its first steps by hand, the penalty's slope, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.alma import Alma, _slope

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(8, 3, 4, 4, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3}


def run(attack_with, norm=Norm.L2, queries=60, model=MODEL, **params):
    return attack_with(Alma(Alma.Params(**params)), model, IMAGES, norm=norm, queries=queries, **REAL)


def by_hand(steps: int, norm: Norm) -> list[torch.Tensor]:
    """The attack written over autograd and its formulas, for samples that stand all the while."""
    labels, delta = LABELS, torch.zeros_like(IMAGES)
    squares, momentum = torch.ones_like(IMAGES), torch.zeros_like(IMAGES)
    mu, rho = torch.ones(8), torch.ones(8)
    course, rate = [], None
    for step in range(steps):
        course.append(IMAGES + delta)
        leaf = delta.clone().requires_grad_(True)
        scores = MODEL.predict(IMAGES + leaf)
        top = scores.sort(1, descending=True).values
        best = scores.scatter(1, labels[:, None], -torch.inf).amax(1)
        ratio = (scores.gather(1, labels[:, None])[:, 0] - best + 1e-4) / (top[:, 0] - top[:, 2] + 1e-8)
        y, m, r = ratio.detach().requires_grad_(True), mu, rho
        assert bool((y > 0).all())
        if step:
            penalty = m * y + m * r * y**2 + r**2 * y**3 / 6
            mu = 0.9 * mu + 0.1 * torch.autograd.grad(penalty.sum(), y)[0]
        loss = mu * ratio + mu * rho * ratio**2 + rho**2 * ratio**3 / 6
        if step:
            flat = leaf.flatten(1)
            loss = loss + (flat.norm(dim=1) if norm is Norm.L2 else flat.abs().sum(1))
        slope = torch.autograd.grad(loss.sum(), leaf)[0]
        if rate is None:  # nothing is clipped in so short a step
            rate = (0.05 / norm_of(norm, slope))[:, None, None, None]
        squares = 0.9 * squares + 0.1 * slope**2
        momentum = 0.9 * momentum + slope / (squares.sqrt() + 1e-8)
        delta = (IMAGES + delta - rate * momentum).clamp(0, 1) - IMAGES
    return course


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
def test_reaches_the_known_optimum(norm, attack_with):
    trial = run(attack_with, norm, queries=1000, first_distance=0.1)  # the nearest boundary is 0.02 away
    assert all(trial.broken)
    optimum = MODEL.smallest(norm, IMAGES, LABELS)
    size = norm_of(norm, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.02


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
def test_the_first_steps_are_the_published_ones(norm, attack_with, monkeypatch):
    """In small steps far from the boundary, so that no sample falls."""
    quiet = LinearClassifier(MODEL.weight, 300 * torch.eye(4)[0])  # far from every boundary
    monkeypatch.setitem(globals(), "MODEL", quiet)
    monkeypatch.setitem(globals(), "LABELS", torch.zeros(8, dtype=torch.int64))
    trial = run(attack_with, norm, queries=9, model=quiet, first_distance=0.05)
    for step, image in enumerate(by_hand(8, norm)):
        assert torch.allclose(trial.course[step], image, atol=1e-4), step


def test_the_slope_of_the_penalty_is_its_derivative():
    rho, mu = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 4.0])
    for value in (-2.0, -0.1, 0.3, 1.0):
        y = torch.full((3,), value, requires_grad=True)
        penalty = mu * y + mu * rho * y**2 + rho**2 * y**3 / 6 if value >= 0 else mu * y / (1 - rho * y)
        assert torch.allclose(_slope(y.detach(), rho, mu), torch.autograd.grad(penalty.sum(), y)[0])


def test_two_classes_have_a_slope(attack_with):
    two = LinearClassifier(MODEL.weight[:2])
    trial = run(attack_with, queries=300, model=two)
    assert all(trial.broken)
    optimum = two.smallest(Norm.L2, IMAGES, two.predict(IMAGES).argmax(1))
    assert float(norm_of(Norm.L2, trial.found.images - IMAGES).mean() / optimum.mean()) < 1.05


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 30},
        {"first_distance": 0.2},
        {"last_share": 0.5},
        {"mu": 9.0},
        {"rho": 5.0},
        {"smoothing": 0.5},
        {"tolerance": 0.5},
    ],
)
def test_every_parameter_changes_the_course(changed, attack_with):
    usual, other = (run(attack_with, **given).course for given in ({}, changed))
    assert usual.shape != other.shape or not torch.allclose(usual, other)


@pytest.mark.parametrize("changed", [{"growth": 4.0}, {"improvement": 0.01}])
def test_a_sample_that_comes_no_closer_is_pressed_harder(changed, attack_with):
    far = LinearClassifier(MODEL.weight * 0.02, 2 * torch.eye(4)[0])
    fields = {"norm": Norm.L2, "queries": 60, "labels": torch.zeros_like(LABELS), **REAL}
    usual, harder = (
        attack_with(Alma(Alma.Params(**given)), far, IMAGES, **fields).course for given in ({"growth": 1.1}, changed)
    )
    assert torch.equal(usual[:9], harder[:9]), "before the first look"
    assert not torch.allclose(usual, harder)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
def test_of_two_classes_the_scale_does_not_matter_either(norm, scale, attack_with):
    weight = MODEL.weight[:2]
    bias = -0.5 * weight.flatten(1).sum(1)
    labels = LinearClassifier(weight, bias).predict(IMAGES).argmax(1)
    model = LinearClassifier(scale * weight, scale * bias)
    trial = run(attack_with, norm, queries=300, model=model, steps=300)
    assert all(trial.broken)
    optimum = LinearClassifier(weight, bias).smallest(norm, IMAGES, labels)
    assert float((norm_of(norm, trial.found.images - IMAGES)).mean() / optimum.mean()) < 1.05
