"""nes and spsa: the estimated gradient is the gradient, budgets are used whole, and every parameter has an effect."""

from __future__ import annotations

import pytest
import torch

from charpy.random import Random, sample_keys
from charpy.search.estimate import _affordable
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.score.nes import Nes
from charpy_plugins.attacks.score.spsa import Spsa

GENERATOR = torch.Generator().manual_seed(17)
WEIGHT = torch.randn(2, 1, 4, 4, generator=GENERATOR)
IMAGES = 0.5 + 0.05 * torch.randn(5, 1, 4, 4, generator=GENERATOR)
ON_GRID = IMAGES.mul(255).round().div(255)
GATES = [(Nes, Norm.LINF), (Nes, Norm.L2), (Spsa, Norm.LINF)]


def model_at(gap: float) -> LinearClassifier:
    """Two classes; the nearest image is of class 0 by `gap`."""
    values = (ON_GRID * (WEIGHT[0] - WEIGHT[1])).flatten(1).sum(1)
    return LinearClassifier(WEIGHT, torch.tensor([gap - float(values.min()), 0.0]))


class Watched(LinearClassifier):
    """Keeps what it was asked."""

    def predict(self, images):
        self.asked = [*getattr(self, "asked", []), images.clone()]
        return super().predict(images)


@pytest.mark.parametrize(("attack", "norm"), GATES)
def test_steps_go_down_the_gradient(attack, norm, attack_with):
    """With many directions the first step is that of the exact gradient, which a linear model has everywhere."""
    model = Watched(WEIGHT, model_at(2.0).bias)
    samples = 8000
    found = attack_with(
        attack(attack.Params(samples=samples)),
        model,
        IMAGES[:1],
        norm=norm,
        radius=0.02,
        queries=samples + 2,
        grid=Grid.NONE,
        labels=torch.zeros(1, dtype=torch.int64),
        batch=100_000,
    )
    assert found.rows == samples + 2
    moved = (model.asked[-1][-1] - IMAGES[0]).flatten()
    slope = (WEIGHT[1] - WEIGHT[0]).flatten()
    assert float(moved @ slope / (moved.norm() * slope.norm())) > (0.75 if norm is Norm.LINF else 0.98)
    clear = slope.abs() > 0.2
    assert torch.equal(moved.sign()[clear], slope.sign()[clear])


@pytest.mark.parametrize(("attack", "norm"), GATES)
@pytest.mark.parametrize("grid", list(Grid))
def test_breaks_a_linear_model_just_above_its_distance(attack, norm, grid, attack_with):
    model = model_at(0.3)
    radius = 1.25 * float(model.smallest(norm, ON_GRID, torch.zeros(5, dtype=torch.int64)).max())
    trial = attack_with(attack(), model, ON_GRID, norm=norm, radius=radius, queries=3000, grid=grid)
    assert all(trial.broken)


@pytest.mark.parametrize("remaining", [1, 2, 3, 4, 5, 6, 7, 20])
def test_the_last_round_leaves_a_row_for_its_step(remaining):
    asked = _affordable(torch.tensor([remaining]), 3)[0]
    assert bool(asked[0])
    assert torch.equal(asked[1:4], asked[4:]), "points come in pairs"
    spent = int(asked.sum())
    assert spent <= 7
    assert spent == 1 or spent < remaining
    assert spent == 7 or remaining - spent <= 2


@pytest.mark.parametrize("queries", [1, 5, 51, 77])
def test_the_whole_budget_is_used(queries, attack_with):
    trial = attack_with(Nes(), model_at(50.0), ON_GRID, norm=Norm.LINF, th=1, queries=queries)
    assert trial.found.queries.tolist() == [queries] * 5


NES = [
    {"samples": 20},
    {"sigma": 0.05},
    {"grid_steps": 6.0},
    {"step": 0.6},
    {"least": 0.19},
    {"momentum": 0.0},
    {"plateau": 2},
    {"drop": 4.0},
    {"loss": "cross_entropy"},
]
SPSA = [{"samples": 20}, {"delta": 0.05}, {"step": 0.01}, {"beta1": 0.0}, {"beta2": 0.5}]


@pytest.mark.parametrize(
    ("attack", "changed"), [(Nes, changed) for changed in NES] + [(Spsa, changed) for changed in SPSA]
)
def test_every_parameter_has_an_effect(attack, changed, attack_with):
    model = model_at(8.0)
    model.weight = torch.cat([WEIGHT, torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))])
    model.bias, model.num_classes = torch.cat([model.bias, torch.zeros(2)]), 4
    runs = [
        attack_with(
            attack(attack.Params(**{"samples": 10, **params})), model, ON_GRID, norm=Norm.LINF, th=20, queries=700
        ).found
        for params in ({}, {}, changed)
    ]
    assert torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[2].trace.nan_to_num())


def test_random_directions_have_mean_0_and_variance_1():
    random = Random(0, sample_keys(["a"]))
    row = torch.tensor([0])
    normal = random.normal(row, 3, 20_000)
    signs = random.integers(row, 3, 2, 20_000).float() * 2 - 1
    for drawn in (normal, signs):
        assert abs(float(drawn.mean())) < 0.03
        assert abs(float(drawn.square().mean()) - 1) < 0.03
