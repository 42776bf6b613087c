"""EAD: the known optimum, the thresholding, the search for c, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.ead import Ead

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(8, 3, 4, 4, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3, "norm": Norm.L1}


def course(attack_with, queries=100, **params):
    attack = Ead(Ead.Params(**params))
    trial = attack_with(attack, MODEL, IMAGES, queries=queries, **REAL)
    return trial, trial.course


def size(trial):
    return norm_of(Norm.L1, trial.found.images - IMAGES)


def test_reaches_the_known_optimum(attack_with):
    trial = attack_with(Ead(), MODEL, IMAGES, queries=2000, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(Norm.L1, IMAGES, LABELS)
    assert float((size(trial) / optimum).min()) > 1 - 1e-4
    assert float(size(trial).mean() / optimum.mean()) < 1.05


def test_a_step_goes_down_and_thresholds(attack_with):
    """Equation 8 by hand, for the first step of ISTA from the image itself."""
    params = {"steps": 3, "searches": 1, "betas": 1, "line_search": 0, "momentum": False}
    _, images = course(attack_with, constant=0.5, beta=0.004, learning_rate=0.02, **params)
    scores = MODEL.predict(IMAGES)
    best = scores.scatter(1, LABELS[:, None], -torch.inf).argmax(1)
    moved = -0.02 * 0.5 * (MODEL.weight[LABELS] - MODEL.weight[best])
    expected = torch.where(moved > 0.004, moved - 0.004, torch.where(moved < -0.004, moved + 0.004, 0.0))
    assert torch.allclose(images[1], IMAGES + expected, atol=1e-6)
    assert bool((images[1] == IMAGES).any())


def test_c_grows_tenfold_until_it_is_enough(attack_with):
    """The first step of each descent is in proportion to its c."""
    params = {"steps": 1, "searches": 3, "betas": 1, "line_search": 0, "momentum": False, "beta": 0.0}
    trial, images = course(attack_with, constant=1e-4, **params)
    assert trial.found.queries.tolist() == [3] * 8
    assert torch.equal(images, IMAGES.expand_as(images)), "each descent begins at the image"
    few, more = (
        attack_with(Ead(Ead.Params(searches=n, betas=1, constant=1e-6)), MODEL, IMAGES, queries=1000, **REAL)
        for n in (3, 9)
    )
    assert sum(few.broken) == 0, "1e-6, 1e-5, 1e-4 are too small"
    assert all(more.broken)


def test_fista_spends_two_queries_a_step_and_ista_one(attack_with):
    params = {"steps": 4, "searches": 2, "betas": 1, "line_search": 0}
    assert course(attack_with, **params)[0].found.queries.tolist() == [16] * 8
    assert course(attack_with, **params, momentum=False)[0].found.queries.tolist() == [8] * 8


def test_the_budget_is_shared_among_the_descents(attack_with):
    trial, _ = course(attack_with, queries=100, searches=5, betas=1, line_search=6)
    assert int(trial.found.queries.max()) <= 100
    assert int(trial.found.queries.min()) >= 5 * 2 * 9


def test_a_heavier_beta_makes_sparser_and_smaller_witnesses(attack_with):
    one, three = (
        attack_with(Ead(Ead.Params(betas=n, beta=1e-3, line_search=0)), MODEL, IMAGES, queries=1500, **REAL)
        for n in (1, 3)
    )
    assert float(size(three).mean()) < 0.9 * float(size(one).mean())
    assert int((three.found.images != IMAGES).sum()) < int((one.found.images != IMAGES).sum())


def test_the_line_search_ends_at_the_boundary(attack_with):
    without, searched = (
        attack_with(Ead(Ead.Params(steps=12, line_search=n)), MODEL, IMAGES, queries=1000, **REAL) for n in (0, 10)
    )
    assert float(size(searched).mean()) < float(size(without).mean())
    assert float(MODEL.predict(searched.found.images).topk(2).values.diff().abs().max()) < 0.05


def test_a_descent_that_has_stopped_falling_ends(attack_with):
    spent = [
        attack_with(Ead(Ead.Params(abort_early=early, beta=0.5)), MODEL, IMAGES, queries=2000, **REAL).found.queries
        for early in (True, False)
    ]
    assert bool((spent[0] < spent[1]).all())


def test_confidence_asks_for_a_margin(attack_with):
    """A witness still counts, but c is only enough where the margin is."""
    plain, sure = (
        attack_with(Ead(Ead.Params(confidence=k, line_search=0)), MODEL, IMAGES, queries=1000, **REAL)
        for k in (0.0, 3.0)
    )
    assert not torch.equal(plain.found.images, sure.found.images)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.05}, {"constant": 0.05}, {"beta": 0.05}])
def test_every_parameter_changes_the_course(changed, attack_with):
    params = {"steps": 10, "searches": 3, "constant": 0.5}
    usual, other = (course(attack_with, queries=200, **{**params, **given})[1] for given in ({}, changed))
    assert not torch.allclose(usual, other)
