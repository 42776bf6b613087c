"""sigma-zero: the known optimum in pixels, what a group is, the threshold, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.sigma_zero import SigmaZero

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = (torch.rand(12, 3, 5, 5, generator=GENERATOR) * 0.4 + 0.3).mul(255).round().div(255)
MODEL = LinearClassifier(torch.randn(4, 3, 5, 5, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 25, "norm": Norm.L0}


def course(attack_with, **params):
    attack = SigmaZero(SigmaZero.Params(**params))
    trial = attack_with(attack, MODEL, IMAGES, queries=params.get("steps", 60), **REAL)
    return trial, trial.course


@pytest.mark.parametrize("grid", list(Grid))
def test_reaches_the_known_optimum_on_and_off_the_grid(grid, attack_with):
    trial = attack_with(SigmaZero(), MODEL, IMAGES, queries=300, **{**REAL, "grid": grid})
    assert all(trial.broken)
    found = trial.found.images.float() / 255 if grid is Grid.EIGHT_BIT else trial.found.images
    size = norm_of(Norm.L0, torch.where((found - IMAGES).abs() > 1e-4, found - IMAGES, 0.0))
    optimum = MODEL.smallest(Norm.L0, IMAGES, LABELS)
    assert bool((size >= optimum).all())
    assert float(size.mean() / optimum.mean()) < 1.05


def features_per_pixel(images):
    changed = images[1:] != IMAGES
    return float(changed.sum() / changed.any(2).sum())


def test_a_pixel_is_kept_or_reset_as_a_whole(attack_with):
    pixels, features = (course(attack_with, steps=60, group=group)[1] for group in ("pixel", "feature"))
    assert features_per_pixel(pixels) > 2.5, "all channels of a place together"
    assert features_per_pixel(features) < 2, "single values"


def test_small_changes_are_reset_below_the_threshold(attack_with):
    _, images = course(attack_with, steps=5, tau=0.2, pace=1e-9, learning_rate=0.3, group="feature")
    moved = (images - IMAGES).abs()
    moved = moved[moved > 0]
    assert len(moved)
    assert float(moved.min()) >= 0.2 - 1e-6


def test_steps_and_budget_end_the_descent(attack_with):
    assert course(attack_with, steps=9)[0].found.queries.tolist() == [9] * 12
    trial = attack_with(SigmaZero(), MODEL, IMAGES, queries=7, **REAL)
    assert trial.found.queries.tolist() == [7] * 12


@pytest.mark.parametrize("changed", [{"learning_rate": 0.3}, {"sigma": 0.1}, {"tau": 0.05}, {"pace": 0.05}])
def test_every_parameter_changes_the_course(changed, attack_with):
    usual, other = (course(attack_with, **{"steps": 20, **given})[1] for given in ({}, changed))
    assert not torch.allclose(usual, other)
