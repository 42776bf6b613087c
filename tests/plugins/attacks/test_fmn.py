"""FMN: the known optimum of every norm, what the schedule does, and an effect of every parameter."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import BALLS, Grid, Norm
from charpy_plugins.attacks.optimality.fmn import Fmn

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(12, 3, 4, 4, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3}


def course(attack_with, norm, **params):
    attack = Fmn(Fmn.Params(**params))
    trial = attack_with(attack, MODEL, IMAGES, norm=norm, queries=params.get("steps", 60), **REAL)
    return trial, torch.stack([norm_of(norm, image - IMAGES) for image in trial.course]), trial.course


@pytest.mark.parametrize("norm", list(BALLS))
def test_reaches_the_known_optimum(norm, attack_with):
    trial = attack_with(Fmn(), MODEL, IMAGES, norm=norm, queries=250, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(norm, IMAGES, LABELS)
    size = norm_of(norm, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.05


def test_the_first_radius_is_the_distance_to_the_linear_boundary(attack_with):
    _, sizes, _ = course(attack_with, Norm.LINF, steps=10, gamma=0.05, gamma_last=0.05, alpha=100.0)
    scores = MODEL.predict(IMAGES)
    best = scores.scatter(1, LABELS[:, None], -torch.inf).max(1)
    gap = scores.gather(1, LABELS[:, None])[:, 0] - best.values
    slope = (MODEL.weight[LABELS] - MODEL.weight[best.indices]).abs().flatten(1).sum(1)  # the dual norm of Linf is L1
    assert bool((sizes[0] == 0).all())
    assert torch.allclose(sizes[1], 1.05 * gap / slope, rtol=1e-4), "1 + gamma times, so that it crosses"


def test_the_radius_shrinks_by_gamma_at_a_success_and_grows_at_a_failure(attack_with):
    _, sizes, images = course(attack_with, Norm.L2, steps=30, gamma=0.1, gamma_last=0.1, alpha=100.0, alpha_last=100.0)
    won = torch.stack([MODEL.predict(image).argmax(1) != LABELS for image in images])
    seen = won.cumsum(0) > 0
    factor = sizes[1:] / sizes[:-1]
    after_success, after_failure = won[:-1], ~won[:-1] & seen[:-1]
    assert torch.allclose(factor[after_success], torch.tensor(0.9), rtol=1e-3)
    assert bool(after_failure.any())
    assert torch.allclose(factor[after_failure], torch.tensor(1.1), rtol=1e-3)


def test_l0_changes_the_radius_by_a_pixel_at_least(attack_with):
    _, sizes, images = course(attack_with, Norm.L0, steps=12)
    won = torch.stack([MODEL.predict(image).argmax(1) != LABELS for image in images])
    moved = sizes[1:] - sizes[:-1]
    assert bool((moved[won[:-1]] <= -1).all())
    assert int(sizes.max()) <= 16


def test_steps_and_budget_end_the_descent(attack_with):
    trial = attack_with(Fmn(Fmn.Params(steps=9)), MODEL, IMAGES, norm=Norm.L2, queries=100, **REAL)
    assert trial.found.queries.tolist() == [9] * 12
    trial = attack_with(Fmn(), MODEL, IMAGES, norm=Norm.L2, queries=7, **REAL)
    assert trial.found.queries.tolist() == [7] * 12


def test_the_steps_fall_by_a_cosine_from_alpha_to_alpha_last(attack_with):
    steps = 8
    still = LinearClassifier(MODEL.weight, 1e4 * torch.eye(4)[0])
    attack = Fmn(Fmn.Params(steps=steps, alpha=0.05, alpha_last=0.01))
    trial = attack_with(attack, still, IMAGES, norm=Norm.L2, queries=100, labels=torch.zeros_like(LABELS), **REAL)
    lengths = torch.stack([norm_of(Norm.L2, after - before) for before, after in itertools.pairwise(trial.course)])
    for step in range(steps - 1):
        expected = 0.01 + 0.04 * (1 + math.cos(math.pi * step / steps)) / 2
        assert torch.allclose(lengths[step], torch.tensor(expected), rtol=1e-3), step


@pytest.mark.parametrize("changed", [{"alpha": 0.2}, {"alpha_last": 0.5}, {"gamma": 0.3}, {"gamma_last": 0.04}])
def test_every_parameter_changes_the_course(changed, attack_with):
    usual, other = (course(attack_with, Norm.LINF, **{"steps": 20, **given})[2] for given in ({}, changed))
    assert not torch.allclose(usual, other)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1, Norm.LINF])
def test_the_radius_grows_across_the_boundary_however_near_it_is(norm, attack_with):
    """Of two classes the first step ends so near the boundary that its distance is less than the size's rounding."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 1, 4, 4, generator=generator)
    images = torch.randint(0, 256, (64, 1, 4, 4), generator=generator) / 255
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    trial = attack_with(Fmn(), model, images, norm=norm, queries=300, **REAL)
    assert all(trial.broken)
    size = norm_of(norm, trial.found.images - images)
    optimum = model.smallest(norm, images, model.predict(images).argmax(1))
    assert float(size.mean() / optimum.mean()) < 1.05
