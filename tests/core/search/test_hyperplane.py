"""The way to a hyperplane inside the box, against general-purpose optimisers of scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from charpy.geometry import norm_of
from charpy.search.hyperplane import dual_size, onto_hyperplane
from charpy.threat import Norm

NORMS = (Norm.L1, Norm.L2, Norm.LINF)
ROWS, SHAPE = 24, (2, 3, 2)


def problem(share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images partly at the box's walls, normals partly 0, and needs that are `share` of what the box allows."""
    generator = torch.Generator().manual_seed(5)
    images = (torch.rand(ROWS, *SHAPE, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    normal = torch.randn(ROWS, *SHAPE, generator=generator)
    normal[torch.rand(normal.shape, generator=generator) < 0.1] = 0
    sign = torch.where(torch.rand(ROWS, generator=generator) < 0.5, -1.0, 1.0)
    push = normal * sign[:, None, None, None]
    most = torch.where(push > 0, push * (1 - images), -push * images).flatten(1).sum(1)
    return images, normal, sign * most * share


def least(norm: Norm, image: np.ndarray, normal: np.ndarray, need: float) -> float:
    """The smallest norm by linear programming (L1, Linf) or sequential quadratic programming (L2)."""
    size = len(image)
    box = list(zip(-image, 1 - image, strict=True))
    if norm is Norm.L2:
        found = minimize(
            lambda u: u @ u,
            np.zeros(size),
            jac=lambda u: 2 * u,
            bounds=box,
            constraints={"type": "eq", "fun": lambda u: normal @ u - need, "jac": lambda u: normal},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(np.sqrt(found.fun))
    sizes = size if norm is Norm.L1 else 1  # variables: u, then the bounds of |u|
    cover = np.eye(size) if norm is Norm.L1 else np.ones((size, 1))
    limits = np.block([[np.eye(size), -cover], [-np.eye(size), -cover]])
    found = linprog(
        np.r_[np.zeros(size), np.ones(sizes)],
        A_ub=limits,
        b_ub=np.zeros(2 * size),
        A_eq=np.r_[normal, np.zeros(sizes)][None],
        b_eq=[need],
        bounds=box + [(0, None)] * sizes,
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.95])
@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_shortest_way_onto_the_plane_inside_the_box(norm, share):
    images, normal, need = problem(share)
    change = onto_hyperplane(norm, images, normal, need)
    assert torch.allclose((normal * change).flatten(1).sum(1), need, atol=1e-5)
    assert float((images + change).min()) >= -1e-6
    assert float((images + change).max()) <= 1 + 1e-6
    flat = (images.flatten(1).double().numpy(), normal.flatten(1).double().numpy(), need.double().numpy())
    best = [least(norm, *row) for row in zip(*flat, strict=True)]
    np.testing.assert_allclose(norm_of(norm, change).numpy(), best, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_is_approached_as_far_as_the_box_allows(norm):
    images, normal, need = problem(3.0)
    change = onto_hyperplane(norm, images, normal, need)
    assert torch.allclose((normal * change).flatten(1).sum(1), need / 3, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_moves_without_a_need_or_a_normal(norm):
    images, normal, need = problem(0.4)
    assert not onto_hyperplane(norm, images, normal, torch.zeros_like(need)).any()
    assert not onto_hyperplane(norm, images, torch.zeros_like(normal), need).any()


@pytest.mark.parametrize("scale", [1e-25, 1e20])
@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_scores_does_not_matter(norm, scale):
    images, normal, need = problem(0.4)
    scaled = onto_hyperplane(norm, images, normal * scale, need * scale)
    assert torch.allclose(scaled, onto_hyperplane(norm, images, normal, need), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_others(norm):
    images, normal, need = problem(0.4)
    need[0] *= 0.01  # converges before the others
    whole = onto_hyperplane(norm, images, normal, need)
    for row in (0, 7):
        alone = onto_hyperplane(norm, images[row, None], normal[row, None], need[row, None])
        assert torch.equal(alone[0], whole[row])


@pytest.mark.parametrize("norm", NORMS)
def test_dual_size_is_the_gain_of_the_best_unit_change(norm):
    _, normal, _ = problem(0.4)
    middle = torch.full_like(normal, 0.5)  # far from the walls, so that a tiny step is free
    tiny = onto_hyperplane(norm, middle, normal, torch.full((ROWS,), 1e-2))
    assert torch.allclose(1e-2 / norm_of(norm, tiny), dual_size(norm, normal), rtol=1e-4)
