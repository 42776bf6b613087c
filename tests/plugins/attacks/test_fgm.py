"""FGM: one exact step, two rows."""

from __future__ import annotations

import pytest
import torch

from charpy.testing.linear import LinearModel
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.distortion.fgm import Fgm

NORMS = [Norm.LINF, Norm.L2, Norm.L1]


def problem() -> tuple[LinearModel, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    model = LinearModel(torch.randn(3, 5, 5, generator=generator))
    images = (torch.rand(8, 3, 5, 5, generator=generator) * 1.4 - 0.2).clamp(0, 1)
    model.bias = -float((images * model.weight).flatten(1).sum(1).median()) + 0.01
    return model, images


def smallest(model: LinearModel, norm: Norm, images: torch.Tensor) -> torch.Tensor:
    """The exact distance to the boundary inside the box, by bisection over the size of the best change."""
    from charpy.testing.linear import smallest_push

    value = model.predict(images)[:, 1]
    return smallest_push(norm, images, -value.sign()[:, None, None, None] * model.weight, value.abs())


@pytest.mark.parametrize("norm", NORMS)
def test_one_step_reaches_the_boundary_of_a_linear_model_exactly(norm, attack_with):
    """Two classes: the gradient is the exact direction, and the step the best one inside the box."""
    model, images = problem()
    optimum = smallest(model, norm, images)
    for row in range(len(images)):
        one, radius = slice(row, row + 1), float(optimum[row])
        found = [
            attack_with(Fgm(), model, images[one], norm=norm, radius=radius * factor, grid=Grid.NONE).broken[0]
            for factor in (0.99, 1.01)
        ]
        assert found == [False, True]


def test_linf_is_the_published_step(attack_with):
    model, images = problem()
    trial = attack_with(Fgm(), model, images, norm=Norm.LINF, radius=0.4, grid=Grid.NONE)
    away = (model.predict(images)[:, 1] > 0).float().mul(-2).add(1)[:, None, None, None]
    published = (images + 0.4 * away * model.weight.sign()).clamp(0, 1)
    assert all(trial.broken)
    assert torch.allclose(trial.found.images, published, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_two_rows_a_sample(norm, attack_with):
    model, images = problem()
    trial = attack_with(Fgm(), model, images, norm=norm, radius=1e-4, grid=Grid.NONE)
    assert trial.found.queries.tolist() == [2] * 8
    assert trial.oracle.gradient_rows == 8


def test_it_has_no_parameters():
    assert not Fgm.Params.model_fields
