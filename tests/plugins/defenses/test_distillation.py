"""Distillation: soft labels, and the gradient that shrinks with the temperature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from charpy.interfaces.defense import Lesson
from charpy_plugins.defenses.distillation import Distillation, soft_labels


def lesson(scores: torch.Tensor) -> Lesson:
    images = scores[:, None, None]
    return Lesson(nn.Flatten(), images, torch.arange(len(scores)) % 3, 0, 0, 0, nn.Flatten(), functional.cross_entropy)


@pytest.fixture
def scores() -> torch.Tensor:
    return 5 * torch.randn(7, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_soft_labels_are_the_softmax_of_the_scores_over_the_temperature(scores, temperature):
    powers = np.exp(scores.double().numpy() / temperature)
    found = soft_labels(nn.Flatten(), scores[:, None, None], temperature)
    np.testing.assert_allclose(found.numpy(), powers / powers.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 40.0])
@pytest.mark.parametrize("phase", ["teacher", "student"])
def test_the_gradient_of_the_loss(scores, temperature, phase):
    """d loss / d z = (softmax(z / T) - truth) / (T N)."""
    defense = Distillation(Distillation.Params(temperature=temperature))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3, 3))
    defense.begin(0, None)
    truth = functional.one_hot(torch.arange(7) % 3, 3).double()
    if phase == "student":
        defense.begin(1, teacher)
        truth = soft_labels(teacher, scores[:, None, None], temperature).double()
    leaf = scores.flip(1).clone().requires_grad_()
    (slope,) = torch.autograd.grad(defense.loss(lesson(scores), leaf), leaf)
    expected = ((leaf.double() / temperature).softmax(1) - truth) / (temperature * 7)
    torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-7)


def test_the_teacher_is_a_copy_at_rest(scores):
    defense, network = Distillation(), nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.Dropout(0.9)).train()
    defense.begin(1, network)
    one = defense.loss(lesson(scores), scores)
    with torch.no_grad():
        network[1].weight.zero_()
    assert torch.equal(one, defense.loss(lesson(scores), scores))
    again = Distillation()
    again.load(defense.state(), network)
    assert torch.equal(one, again.loss(lesson(scores), scores))
    assert float(network[1].weight.detach().abs().max()) == 0
