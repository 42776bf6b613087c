"""Square: the published schedule and steps, and an effect of every parameter."""

from __future__ import annotations

import math

import pytest
import torch

from charpy.interfaces.attack import Task
from charpy.pixels import quantise
from charpy.random import Random, sample_keys
from charpy.search.random_search import stepwise
from charpy.search.squares import ENDS, Window, bumps
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm, ThreatModel
from charpy_plugins.attacks.score.square import _L2, Square, _Linf

GENERATOR = torch.Generator().manual_seed(11)
IMAGES = torch.randint(0, 256, (8, 3, 12, 12), generator=GENERATOR).float() / 255
COUNT = len(IMAGES)


def task_of(norm: Norm, th: int, queries: int = 1000, grid: Grid = Grid.EIGHT_BIT) -> Task:
    threat = ThreatModel.at_level(norm, th, grid=grid, queries=queries)
    random = Random(0, sample_keys([str(i) for i in range(COUNT)]))
    return Task(IMAGES, torch.zeros(COUNT, dtype=torch.int64), None, threat, None, random)


def state_of(moves, step: int):
    sample = torch.arange(COUNT)
    state = moves.begin(sample, torch.zeros_like(sample))
    return {**state, "sample": sample, "run": torch.zeros_like(sample), "step": torch.full_like(sample, step)}


def classifier(spread: float = 0.4) -> LinearClassifier:
    """Two classes whose boundary is some way from every image of class 0."""
    weight = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    values = (IMAGES * (weight[0] - weight[1])).flatten(1).sum(1)
    return LinearClassifier(weight, torch.tensor([float(-values.min()) + spread, 0.0]))


@pytest.mark.parametrize(
    ("it", "halvings"),
    [(0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (200, 2), (999, 4), (1001, 5), (8000, 8), (8001, 9)],
)
def test_the_share_halves_where_the_paper_says(it, halvings):
    values = [0.8 / 2**n for n in range(10)]
    assert float(stepwise(torch.tensor([it]), 10_000, ENDS, values)) == pytest.approx(0.8 / 2**halvings)
    assert float(stepwise(torch.tensor([it // 10]), 1000, ENDS, values)) == pytest.approx(
        values[sum((it // 10) * 10 > end for end in ENDS)]
    )


def test_begins_with_vertical_stripes_at_the_edges_of_the_ball():
    moves = _Linf(task_of(Norm.LINF, 7), Square.Params())
    start = state_of(moves, 0)["image"].int()
    pixels = quantise(IMAGES).int()
    low, high = (pixels - 7).clamp_min(0), (pixels + 7).clamp_max(255)
    assert bool(((start == low) | (start == high)).all())
    sign, inner = start > pixels, (pixels > 6) & (pixels < 249)
    for column in range(12):
        for channel in range(3):
            seen = sign[0, channel, :, column][inner[0, channel, :, column]]
            assert len(set(seen.tolist())) <= 1


@pytest.mark.parametrize("grid", list(Grid))
def test_a_linf_step_changes_one_square_window(grid):
    moves = _Linf(task_of(Norm.LINF, 7, grid=grid), Square.Params())
    for step in (1, 40, 400, 900):
        state = state_of(moves, step)
        changed = (moves.propose(state)["image"] != state["image"]).any(1)
        side = int(moves.side(state, 1)[0])
        share = 0.8 / 2 ** sum((step - 1) * 10 > end for end in ENDS)
        assert side == max(1, round(math.sqrt(share * 144)))
        assert bool(changed.flatten(1).any(1).all()), "no idle query"
        for row in changed:
            places = row.nonzero()
            assert int((places.amax(0) - places.amin(0)).max()) < side


def test_windows_reach_every_place():
    unit = torch.rand(4000, 2, generator=GENERATOR)
    windows = Window.at(unit[:, 0], unit[:, 1], torch.full((4000,), 3), 7, 9)
    assert bool(windows.mask().any(0).all())
    assert windows.mask().flatten(1).sum(1).unique().tolist() == [9]


def test_bumps_have_unit_length_and_two_signs():
    patterns = bumps(9, 12)
    assert patterns.shape == (2, 10, 9, 9)
    for side in range(2, 10):
        pattern = patterns[0, side, :side, :side]
        assert float(pattern.square().sum()) == pytest.approx(1.0, abs=1e-5)
        assert bool((pattern[: side // 2] > 0).all())
        assert bool((pattern[side // 2 :] < 0).all())
        assert torch.equal(patterns[1, side], patterns[0, side].T)
        assert not bool(patterns[0, side, side:].any())


def test_an_l2_step_keeps_to_two_windows_and_to_the_sphere():
    moves = _L2(task_of(Norm.L2, 32, grid=Grid.NONE), Square.Params())
    start = state_of(moves, 0)
    size = (start["image"] - IMAGES).flatten(1).norm(dim=1)
    assert bool((size <= 32 / 255 + 1e-6).all())
    assert bool((size > 0.8 * 32 / 255).all())
    state = state_of(moves, 900)
    new = moves.propose(state)["image"]
    size = (new - IMAGES).flatten(1).norm(dim=1)
    assert bool((size <= 32 / 255 + 1e-6).all())
    assert bool((size > 0.8 * 32 / 255).all())
    ratio = (new - IMAGES) / (state["image"] - IMAGES)
    for row in range(COUNT):  # outside the windows (two of 3 x 3) the perturbation is only rescaled
        usual = ratio[row][ratio[row].isfinite()].median()
        moved = ((ratio[row] - usual).abs() > 1e-2 * usual.abs()).any(0)
        inner = ((state["image"][row] > 0) & (state["image"][row] < 1)).all(0)
        assert int((moved & inner).sum()) <= 18


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("changed", [{"p_init": 0.05}, {"restarts": 4}, {"rescale": False}])
def test_every_parameter_has_an_effect(norm, changed, attack_with):
    model = classifier(2.0)
    radius = 0.9 * float(model.smallest(norm, IMAGES, torch.zeros(COUNT, dtype=torch.int64)).max())
    runs = [
        attack_with(Square(Square.Params(**params)), model, IMAGES, norm=norm, radius=radius, queries=200).found
        for params in ({}, {}, changed)
    ]
    assert torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[2].trace.nan_to_num())


def test_restarts_share_the_budget(attack_with):
    model = classifier(50.0)
    trial = attack_with(Square(Square.Params(restarts=3)), model, IMAGES, norm=Norm.LINF, th=1, queries=50)
    assert trial.found.queries.tolist() == [50] * COUNT
    assert not any(trial.broken)


def test_another_seed_searches_elsewhere(attack_with):
    model = classifier(2.0)
    runs = [attack_with(Square(), model, IMAGES, norm=Norm.LINF, th=2, queries=60, seed=seed).found for seed in (0, 1)]
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
