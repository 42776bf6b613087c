"""TRADES by hand on a linear network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from charpy.errors import SpecError
from charpy.interfaces.defense import Lesson
from charpy_plugins.defenses.trades import Trades, divergence


@pytest.fixture
def lesson() -> Lesson:
    """Ten images of a linear network with dropout behind, all well inside the box."""
    draw = torch.Generator().manual_seed(2)
    linear = nn.Linear(6, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(2, 6, generator=draw))
        linear.bias.zero_()
    module = nn.Sequential(nn.Flatten(), linear)
    images = 0.4 + 0.2 * torch.rand(10, 1, 2, 3, generator=draw)
    labels = torch.arange(10) % 2
    return Lesson(module, images, labels, 0.0, 3, 7, module, functional.cross_entropy)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_divergence_is_its_definition():
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 5, 3))
    p, q = softmax(one), softmax(other)
    expected = (p * np.log(p / q)).sum()
    assert float(divergence(torch.tensor(one), torch.tensor(other))) == pytest.approx(expected, rel=1e-9)
    assert float(divergence(torch.tensor(one), torch.tensor(one))) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_the_cross_entropy_and_beta_times_the_divergence(lesson):
    defense = Trades(Trades.Params(radius=0.1, beta=3))
    weight = lesson.module[1].weight.detach().double().numpy()
    clean, worst = (
        softmax(images.flatten(1).double().numpy() @ weight.T) for images in (lesson.images, defense.furthest(lesson))
    )
    entropy = -np.log(clean[np.arange(10), lesson.labels]).mean()
    expected = entropy + 3 * (clean * np.log(clean / worst)).sum(1).mean()
    loss = defense.loss(lesson, lesson.scores(lesson.images)).detach()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(loss) > entropy + 1e-3


def test_the_gradient_passes_both_answers(lesson):
    """Against central differences of the whole loss, the worst images held."""
    defense = Trades(Trades.Params(radius=0.1))
    images, worst = lesson.images.double(), defense.furthest(lesson).double()
    layer = lesson.module[1].double()

    def value() -> torch.Tensor:
        clean = lesson.module(images)
        return functional.cross_entropy(clean, lesson.labels) + 6 * divergence(clean, lesson.module(worst)) / 10

    fixed = type("Fixed", (Trades,), {"furthest": lambda self, _: worst})(defense.params)
    (slope,) = torch.autograd.grad(fixed.loss(lesson, lesson.module(images)), layer.weight)
    with torch.no_grad():
        for place in ((0, 0), (1, 4)):
            values = []
            for step in (1e-5, -2e-5):
                layer.weight[place] += step
                values.append(float(value()))
            layer.weight[place] += 1e-5
            assert float(slope[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_the_inner_maximum_is_a_corner(lesson):
    """With two classes the divergence grows along +-(w_1 - w_0): the end of either direction is a maximum."""
    found = Trades(Trades.Params(radius=0.1)).furthest(lesson)
    weight = lesson.module[1].weight.detach()
    across = (weight[1] - weight[0]).sign()
    moved = (found - lesson.images).flatten(1)
    sides = moved[:, :1].sign() * across[0]
    torch.testing.assert_close(moved, 0.1 * sides * across, atol=1e-6, rtol=0)
    others = lesson.images + 0.1 * (2 * torch.rand(64, 1, 1, 2, 3, generator=torch.Generator().manual_seed(0)) - 1)
    with torch.no_grad():
        clean = lesson.module(lesson.images)
        raised = divergence(clean, lesson.module(found))
        assert all(divergence(clean, lesson.module(other)) < raised for other in others)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_stays_in_the_ball_and_leaves_the_network_alone(lesson, norm):
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), *lesson.module).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    given = Lesson(module, lesson.images, lesson.labels, 0.0, 3, 7, module, functional.cross_entropy)
    moved = (Trades(Trades.Params(radius=0.1, norm=norm)).furthest(given) - lesson.images).flatten(1)
    size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert 0.09 < float(size.max()) <= 0.1 + 1e-6
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_no_other_norm():
    with pytest.raises(SpecError, match="linf or l2"):
        Trades(Trades.Params(radius=1, norm="l0"))
