"""What attacks a network in training: known optima, and a network that nothing has happened to."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from charpy.global_state import generator_states
from charpy.interfaces.attack import Attack, Task
from charpy.plugins import registry
from charpy.random import Random
from charpy.threat import Access, Norm, ThreatModel
from charpy.training import ascend, at_rest, hardest

SHAPE, CLASSES = (2, 3, 4), 2
ATTACKS = {
    "pgd": {"steps": 10},
    "fgm": {},
    "apgd_ce": {"steps": 20},
    "square": {},
    "few_pixel": {"population": 8, "generations": 3},
}


class Fickle(nn.Module):
    """Dropout and batch normalisation, one of them frozen, before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.frozen = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(24, CLASSES)
        self.train()
        self.frozen.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(self.drop(self.frozen(self.own(images)).flatten(1)))
        return scores


class Linear(nn.Module):
    """Scores +-w.x."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images * self.weight).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def images(draw: torch.Generator) -> torch.Tensor:
    return torch.rand(12, *SHAPE, generator=draw)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(12) % CLASSES


@pytest.fixture
def weight(draw: torch.Generator) -> torch.Tensor:
    return torch.randn(SHAPE, generator=draw)


def attacked(
    module: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    kind: str,
    radius: float,
    norm: str = "linf",
    queries: int = 300,
    **params: object,
) -> torch.Tensor:
    attack = registry().create("attacks", kind, params or ATTACKS.get(kind, {}))
    threat = ThreatModel(norm=norm, radius=radius, access=attack.access, queries=queries, grid="none")
    return hardest(module, images, labels, attack, threat, Random(5, torch.arange(len(images))))


@pytest.mark.parametrize(
    ("kind", "norm", "radius"),
    [(kind, "l0" if kind == "few_pixel" else "linf", 1 if kind == "few_pixel" else 0.1) for kind in ATTACKS],
)
def test_the_network_and_the_generators_are_as_before(images, labels, kind, norm, radius):
    module = Fickle()
    module(images).sum().backward()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in module.parameters()]
    modes = [part.training for part in module.modules()]
    flags = [parameter.requires_grad for parameter in module.parameters()]
    given, generators = images.clone(), generator_states()
    found = attacked(module, images, labels, kind, radius, norm)
    assert not torch.equal(found, images)
    assert not found.requires_grad
    assert torch.equal(images, given)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(a.grad, b) for a, b in zip(module.parameters(), grads, strict=True))
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == flags
    assert generator_states() == generators


@pytest.mark.parametrize("kind", ["pgd", "fgm", "apgd_ce"])
def test_a_gradient_attack_finds_the_worst_corner_of_a_linear_network(images, labels, weight, kind):
    """Also of images that are wrong from the start: it goes on after a success."""
    module = Linear(weight)
    away = torch.where(labels == 1, -1.0, 1.0)[:, None, None, None] * weight.sign()
    corner = (images + 0.1 * away).clamp(0, 1)
    wrong = module(images).argmax(1) != labels
    assert 0 < int(wrong.sum()) < 12
    torch.testing.assert_close(attacked(module, images, labels, kind, 0.1, queries=1000), corner)


def test_a_black_box_attack_comes_near_it(images, labels, weight):
    module, sign = Linear(weight), torch.where(labels == 1, 1.0, -1.0)
    away = -sign[:, None, None, None] * weight.sign()

    def fall(found: torch.Tensor) -> torch.Tensor:
        return ((images - found) * weight).flatten(1).sum(1) * sign

    best = fall((images + 0.1 * away).clamp(0, 1))
    found = attacked(module, images, labels, "square", 0.1)
    assert bool((fall(found) > 0.5 * best).all())
    assert bool((fall(found) <= best + 1e-5).all())
    assert float((found - images).abs().max()) <= 0.1 + 1e-6


def test_the_worst_pixel_of_a_linear_network(images, labels, weight):
    """Brute force over every pixel and corner colour, which is where a linear function is least."""
    module, sign = Linear(weight), torch.where(labels == 1, 1.0, -1.0)
    found = attacked(module, images, labels, "sparse_rs", 1, "l0", queries=400)
    assert int((found != images).any(1).flatten(1).sum(1).max()) == 1
    for image, own, result in zip(images, sign, found, strict=True):
        least = np.inf
        for row, column, colour in itertools.product(range(3), range(4), itertools.product((0.0, 1.0), repeat=2)):
            changed = image.clone()
            changed[:, row, column] = torch.tensor(colour)
            least = min(least, float((changed * weight).sum() * own))
        assert float((result * weight).sum() * own) == pytest.approx(least, abs=1e-5)


def test_no_radius_no_change(images, labels, weight):
    assert torch.equal(attacked(Linear(weight), images, labels, "pgd", 0.0), images)


def test_more_queries_find_worse(images, labels, weight):
    module = Linear(weight)
    few, many = (attacked(module, images, labels, "square", 0.1, queries=count) for count in (2, 300))
    own = labels[:, None]
    assert bool((module(many).gather(1, own) <= module(few).gather(1, own)).all())
    assert not torch.equal(few, many)


class Stubborn(Attack):
    """Draws from every global generator, asks about one thing outside the ball, and never stops."""

    norms = frozenset({Norm.LINF})
    access = Access.SCORES

    def run(self, task: Task) -> None:
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        rows = torch.arange(len(task.images))
        task.oracle.scores(1 - task.images, rows)
        while True:
            task.oracle.scores((task.images - 0.05).clamp(0, 1), rows)


def test_images_outside_the_ball_do_not_count_and_a_budget_ends_it(images, labels, weight):
    generators = generator_states()
    threat = ThreatModel(norm="linf", radius=0.1, queries=5, grid="none")
    found = hardest(Linear(weight), images, labels, Stubborn(), threat, Random(0, torch.arange(12)))
    assert torch.equal(found, (images - 0.05).clamp(0, 1))
    assert generator_states() == generators


def test_at_rest_restores_every_mode_after_an_error_too():
    module = Fickle()
    modes = [part.training for part in module.modules()]
    with at_rest(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == modes
    with pytest.raises(KeyError), at_rest(module):
        raise KeyError
    assert [part.training for part in module.modules()] == modes


def test_ascend_under_l2_reaches_the_point_of_the_gradient(weight):
    images = torch.full((5, *SHAPE), 0.5)
    found = ascend(
        lambda changed: (changed * weight).sum(), images, images, radius=0.3, steps=4, step=0.1, norm=Norm.L2
    )
    torch.testing.assert_close(found, images + 0.3 * weight / weight.norm(), atol=1e-6, rtol=0)
