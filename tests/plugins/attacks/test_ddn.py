"""DDN: the known optimum, the lengths that it walks, and an effect of every parameter."""

from __future__ import annotations

import math

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.ddn import Ddn

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(12, 3, 4, 4, generator=GENERATOR) * 0.2 + 0.4  # far from the walls of the box
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3, "norm": Norm.L2}


def course(attack_with, model=MODEL, labels=LABELS, **params):
    attack = Ddn(Ddn.Params(**params))
    trial = attack_with(attack, model, IMAGES, labels=labels, queries=params.get("steps", 60), **REAL)
    return trial, trial.course


def lengths(images):
    return torch.stack([norm_of(Norm.L2, image - IMAGES) for image in images])


def test_reaches_the_known_optimum(attack_with):
    trial = attack_with(Ddn(), MODEL, IMAGES, queries=300, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(Norm.L2, IMAGES, LABELS)
    size = norm_of(Norm.L2, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.05


def test_the_length_shrinks_after_a_success_and_grows_after_a_failure(attack_with):
    _, images = course(attack_with, steps=25, start=0.2, gamma=0.1)
    won = torch.stack([MODEL.predict(image).argmax(1) != LABELS for image in images])
    size = lengths(images)
    assert torch.allclose(size[1], torch.tensor(0.22)), "0.2 times 1.1, as no original is adversarial"
    factor = size[2:] / size[1:-1]
    assert torch.allclose(factor[won[1:-1]], torch.tensor(0.9), rtol=1e-3)
    grown = factor[~won[1:-1]]
    assert bool((grown <= 1.1 + 1e-3).all())
    assert bool(torch.isclose(grown, torch.tensor(1.1), rtol=1e-3).any())
    before = torch.where(won, size, torch.inf).cummin(0).values[:-1]
    assert bool((size[1:] <= before * (1 + 1e-4)).all()), "never longer than the smallest success"


def test_a_vanished_gradient_is_replaced_by_a_random_direction(attack_with):
    flat = LinearClassifier(torch.zeros_like(MODEL.weight), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    zeros = torch.zeros_like(LABELS)
    _, images = course(attack_with, flat, zeros, steps=3)
    assert bool((lengths(images)[1] > 0.5).all())
    directions = (images[1] - IMAGES).flatten(1)
    assert not torch.allclose(directions[0], directions[1]), "its own for each sample"


def test_the_steps_fall_by_a_cosine_from_alpha_to_alpha_last(attack_with):
    model = LinearClassifier(MODEL.weight, 12 * torch.eye(4)[0])
    alphas = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]
    images = course(attack_with, model, torch.zeros_like(LABELS), steps=5, start=0.1, gamma=0.01)[1]
    slopes = []
    for image in images:
        given = image.clone().requires_grad_(True)
        loss = model.predict(given).log_softmax(1)[:, 0].sum()
        slope = torch.autograd.grad(loss, given)[0]
        slopes.append(slope / norm_of(Norm.L2, slope).clamp_min(1e-30)[:, None, None, None])
    for step in range(4):
        moved = images[step] - IMAGES - alphas[step] * slopes[step]
        moved = moved * (0.1 * 1.01 ** (step + 1) / norm_of(Norm.L2, moved))[:, None, None, None]
        assert torch.allclose(images[step + 1], IMAGES + moved, atol=1e-5), step


def test_steps_and_budget_end_the_descent(attack_with):
    assert course(attack_with, steps=9)[0].found.queries.tolist() == [9] * 12
    trial = attack_with(Ddn(), MODEL, IMAGES, queries=7, **REAL)
    assert trial.found.queries.tolist() == [7] * 12


@pytest.mark.parametrize("changed", [{"alpha": 0.2}, {"alpha_last": 0.5}, {"gamma": 0.3}, {"start": 0.3}])
def test_every_parameter_changes_the_course(changed, attack_with):
    usual, other = (course(attack_with, **{"steps": 20, **given})[1] for given in ({}, changed))
    assert not torch.allclose(usual, other)
