"""C&W: the known optimum of each norm, the change of variables, the rounds, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.search.adam import direction, moments
from charpy.search.constant import constants, falling, search_constant, stalled
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.cw import Cw

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(8, 3, 4, 4, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3}


def course(attack_with, norm=Norm.L2, queries=100, **params):
    attack = Cw(Cw.Params(**params))
    trial = attack_with(attack, MODEL, IMAGES, norm=norm, queries=queries, **REAL)
    return trial, trial.course


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L0, Norm.LINF])
def test_reaches_the_known_optimum(norm, attack_with):
    trial = attack_with(Cw(), MODEL, IMAGES, norm=norm, queries=2000 if norm is Norm.L2 else 1000, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(norm, IMAGES, LABELS)
    size = norm_of(norm, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.05


def test_l0_freezes_whole_pixels_at_their_own_value(attack_with):
    trial, images = course(attack_with, Norm.L0, queries=600)
    own = (images.nan_to_num(nan=0.5) == IMAGES).all(2).flatten(2)  # (steps, samples, pixels)
    assert all(trial.broken)
    frozen = own[30:60].all(0).sum(1)
    assert bool((frozen > 0).any()), "some pixels keep their value through many steps"
    assert bool((own.sum(2).amax(0) >= 14).all()), "in the end one or two are free"


def test_the_images_stay_in_the_box_without_being_clipped(attack_with):
    _, images = course(attack_with, steps=30, learning_rate=3.0, constant=10.0)
    images = images[~images.isnan()]
    assert float(images.min()) >= 0
    assert 0.99 < float(images.max()) <= 1


def test_the_budget_is_shared_among_the_searches(attack_with):
    _, images = course(attack_with, queries=90, searches=4, line_search=6, abort_early=False, confidence=1e6)
    starts = [step for step in range(len(images)) if torch.allclose(images[step], IMAGES, atol=1e-5)]
    assert starts == [0, 21, 42, 63]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_saturated_image_gets_away_from_the_end_of_the_box(value, attack_with):
    images = torch.full_like(IMAGES, value)
    bias = -value * MODEL.weight.flatten(1).sum(1) + torch.tensor([0.5] + [0.0] * (len(MODEL.weight) - 1))
    model = LinearClassifier(MODEL.weight, bias)
    trial = attack_with(Cw(), model, images, norm=Norm.L2, radius=5.0, queries=200, grid=Grid.NONE)
    assert all(trial.broken)
    size, labels = norm_of(Norm.L2, trial.found.images - images), torch.zeros_like(LABELS)
    assert float(size.mean() / model.smallest(Norm.L2, images, labels).mean()) < 1.2


def test_a_descent_cut_short_takes_larger_steps_where_the_boundary_is_far(attack_with):
    """Four times the published learning rate for a quarter of the steps, but not across a boundary that is near."""
    far = LinearClassifier(MODEL.weight, 1e3 * torch.eye(4)[0])
    ratios = []
    for model, labels in ((far, torch.zeros_like(LABELS)), (MODEL, LABELS)):
        moved = []
        for steps in (200, 50):
            attack = Cw(Cw.Params(searches=1, line_search=0, constant=1.0, steps=steps))
            trial = attack_with(attack, model, IMAGES, norm=Norm.L2, queries=50, labels=labels, **REAL)
            moved.append(float((trial.course[1] - IMAGES).abs().mean()))
        ratios.append(moved[0] / moved[1])
    assert 3.9 < ratios[0] < 4.1
    assert 1 <= ratios[1] < 2


def test_a_descent_that_has_stopped_falling_ends(attack_with):
    spent = [
        course(attack_with, queries=1500, steps=100, abort_early=early, constant=1e-6, learning_rate=0.1)[
            0
        ].found.queries
        for early in (True, False)
    ]
    assert bool((spent[0] < spent[1]).all())


def test_the_line_search_ends_at_the_boundary(attack_with):
    sizes = [
        norm_of(Norm.L2, course(attack_with, queries=200, line_search=n)[0].found.images - IMAGES) for n in (0, 10)
    ]
    assert float(sizes[1].mean()) < float(sizes[0].mean())


@pytest.mark.parametrize("changed", [{"learning_rate": 0.1}, {"constant": 2.0}, {"confidence": 2.0}, {"searches": 2}])
def test_every_parameter_changes_the_course(changed, attack_with):
    params = {"steps": 20, "searches": 4, "constant": 0.3}
    usual, other = (course(attack_with, queries=80, **{**params, **given}) for given in ({}, changed))
    least = min(len(usual[1]), len(other[1]))
    assert not torch.allclose(usual[1][:least], other[1][:least], equal_nan=True)


def test_adam_takes_the_steps_of_torch():
    start = torch.randn(3, 2, 2, 2, generator=GENERATOR)
    gradients = torch.randn(6, 3, 2, 2, 2, generator=GENERATOR)
    variable = start.clone().requires_grad_(True)
    reference = torch.optim.Adam([variable], lr=0.1)
    state, ours = moments(start), start.clone()
    for gradient in gradients:
        variable.grad = gradient.clone()
        reference.step()
        ours = ours - 0.1 * direction(state, gradient)
    assert torch.allclose(ours, variable.detach(), atol=1e-6)


def test_the_constant_is_bracketed_and_halved():
    state = constants(torch.arange(2), 0.01)
    every = torch.ones(2, dtype=torch.bool)
    course_of = []
    for _ in range(6):
        enough = state["constant"] >= torch.tensor([0.7, 0.001])
        search_constant(state, every, enough)
        course_of.append(state["constant"].tolist())
    first = [0.1, 1.0, 0.55, 0.775, 0.6625, 0.71875]
    assert torch.allclose(torch.tensor(course_of)[:, 0], torch.tensor(first))
    second = [0.005, 0.0025, 0.00125, 0.000625, 0.0009375, 0.00109375]
    assert torch.allclose(torch.tensor(course_of)[:, 1], torch.tensor(second))
    assert state["searches"].tolist() == [6, 6]


def test_only_a_row_whose_lowest_loss_stands_still_has_stalled():
    sample = torch.arange(3)
    state = {**falling(sample), "iteration": torch.zeros_like(sample)}
    losses = torch.tensor([[9.0, 8, 7, 6], [9.0, 9, 9, 9], [9.0, 5, 9, 4]])
    verdicts = []
    for step in range(4):
        state["iteration"] = state["iteration"] + 1
        verdicts.append(stalled(state, losses[:, step], 20).tolist())  # checked at every second step
    assert verdicts == [[False] * 3, [False] * 3, [False] * 3, [False, True, False]]
