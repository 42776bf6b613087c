"""Projections, directions and starts, held against their definitions and a reference solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, NonlinearConstraint, linprog, minimize

from charpy.geometry import furthest, largest, norm_of, onto_sphere, project, random_start, steepest
from charpy.pixels import inside
from charpy.random import Random, sample_keys
from charpy.threat import BALLS, Grid, Norm, ThreatModel

NORMS = list(BALLS)
CONVEX = [Norm.L1, Norm.L2]
RADII = {Norm.L0: (1.0, 3.0, 7.0), Norm.L1: (0.02, 0.7, 6.0), Norm.L2: (0.004, 0.3, 1.5), Norm.LINF: (1 / 255, 0.2)}
GATES = [(norm, radius) for norm in NORMS for radius in RADII[norm]]
quick = settings(max_examples=40)


def problem(seed: int, *, rows: int = 8, spread: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, some values of which lie on the box, and candidates around them, some values of which leave it."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rows, 3, 4, 5, generator=generator) * 1.6 - 0.3
    images.clamp_(0, 1)
    scale = torch.rand(rows, 1, 1, 1, generator=generator) * 2 * spread
    candidates = images + torch.randn(images.shape, generator=generator) * scale
    candidates[::2, 0, 0] = images[::2, 0, 0]
    return images, candidates


def contains(norm: Norm, radius: float, images: torch.Tensor, found: torch.Tensor) -> bool:
    threat = ThreatModel(norm=norm, radius=radius, grid=Grid.NONE)
    return bool(inside(threat, images, found).all())


@quick
@given(st.sampled_from(GATES), st.integers(0, 10**6), st.floats(0.001, 3.0))
def test_a_projection_is_inside_and_projecting_it_again_changes_no_bit(gate, seed, spread):
    norm, radius = gate
    images, candidates = problem(seed, spread=spread)
    once = project(norm, images, candidates, radius)
    assert contains(norm, radius, images, once)
    assert torch.equal(project(norm, images, once, radius), once)


@quick
@given(st.sampled_from(GATES), st.integers(0, 10**6))
def test_what_is_inside_is_left_alone_to_the_bit(gate, seed):
    norm, radius = gate
    images, candidates = problem(seed)
    delta = (candidates - images).clamp(-1, 1)
    if norm is Norm.L0:
        kept = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[: int(radius)]
        mask = torch.zeros(20).index_fill(0, kept, 1).view(1, 1, 4, 5)
        within = torch.where(mask > 0, candidates.clamp(0, 1), images)
    else:
        within = (images + delta * (radius / (norm_of(norm, delta) * 1.001))[:, None, None, None]).clamp(0, 1)
    assert torch.equal(project(norm, images, within, radius), within)


@pytest.mark.parametrize(("norm", "radius"), GATES)
def test_each_row_has_its_own_radius_and_no_neighbours(norm, radius):
    images, candidates = problem(3)
    radii = torch.linspace(0.5, 1.5, len(images)) * radius
    whole = project(norm, images, candidates, radii)
    for row in range(len(images)):
        one = slice(row, row + 1)
        alone = project(norm, images[one], candidates[one], float(radii[row]))
        assert torch.equal(whole[one], alone)
    assert (norm_of(norm, whole - images) <= radii.ceil() if norm is Norm.L0 else radii + 1e-6).all()


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_the_nearest_point(norm, seed):
    """Against SLSQP in float64; L1 with the perturbation split into its positive and its negative part."""
    images, candidates = problem(seed, rows=1, spread=0.8)
    radius = RADII[norm][1]
    x, goal = images.double().flatten().numpy(), (candidates - images).double().flatten().numpy()
    found = (project(norm, images, candidates, radius) - images).double().flatten().numpy()
    if norm is Norm.L2:
        reference = minimize(
            lambda u: ((u - goal) ** 2).sum() / 2,
            np.zeros_like(goal),
            jac=lambda u: u - goal,
            bounds=Bounds(-x, 1 - x),
            constraints=[{"type": "ineq", "fun": lambda u: radius**2 - u @ u, "jac": lambda u: -2 * u}],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-13},
        ).x
    else:
        size = len(goal)
        parts = minimize(
            lambda v: ((v[:size] - v[size:] - goal) ** 2).sum() / 2,
            np.zeros(2 * size),
            jac=lambda v: np.concatenate([v[:size] - v[size:] - goal, goal - v[:size] + v[size:]]),
            bounds=Bounds(np.zeros(2 * size), np.concatenate([1 - x, x])),
            constraints=[{"type": "ineq", "fun": lambda v: radius - v.sum(), "jac": lambda v: -np.ones_like(v)}],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-13},
        ).x
        reference = parts[:size] - parts[size:]
    assert np.linalg.norm(goal) > radius, "the case must need a projection"
    assert np.linalg.norm(found - goal) <= np.linalg.norm(reference - goal) + 1e-6
    assert np.abs(found - reference).max() < 1e-4


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize(("width", "spread"), [(32, 0.05), (32, 4.0), (7, 3.0)])
def test_the_projection_meets_the_optimality_conditions(norm, width, spread):
    """At the size of real images: on the sphere, and one multiplier explains every value that is not at the box."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, width, width, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    candidates = images + torch.randn(images.shape, generator=generator) * spread
    radius = 0.02 * images[0].numel() if norm is Norm.L1 else 0.03 * images[0].numel() ** 0.5
    found = project(norm, images, candidates, radius)
    assert contains(norm, radius, images, found)
    assert norm_of(norm, found - images).tolist() == pytest.approx([radius] * 6, rel=1e-5)
    delta, moved = (candidates - images).double().flatten(1), (found - images).double().flatten(1)
    free = (found.flatten(1) > 1e-6) & (found.flatten(1) < 1 - 1e-6) & (moved.abs() > 1e-4)
    assert int(free.sum(1).max()) > 1
    for row in range(len(images)):
        large, small = delta[row][free[row]], moved[row][free[row]]
        multiplier = small / large if norm is Norm.L2 else large.abs() - small.abs()
        assert float(multiplier.max() - multiplier.min()) <= 1e-3 * float(multiplier.max())


@pytest.mark.parametrize("seed", range(5))
def test_the_l0_projection_keeps_the_best_pixels(seed):
    """Against every choice of two pixels out of six."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 3, 2, 3, generator=generator)
    candidates = images + torch.randn(images.shape, generator=generator)
    found = project(Norm.L0, images, candidates, 2)
    assert float(norm_of(Norm.L0, found - images)) <= 2
    best = torch.inf
    for first in range(6):
        for second in range(first):
            mask = torch.zeros(6).index_fill(0, torch.tensor([first, second]), 1).view(1, 1, 2, 3)
            tried = torch.where(mask > 0, candidates.clamp(0, 1), images)
            best = min(best, float((tried - candidates).square().sum()))
    assert float((found - candidates).square().sum()) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", [0.0, 1e-12, 1e4])
def test_a_radius_of_nothing_and_one_of_everything(norm, radius):
    images, candidates = problem(5)
    found = project(norm, images, candidates, radius)
    if radius == 1e4:
        assert torch.equal(found, candidates.clamp(0, 1))
    else:
        assert contains(norm, radius, images, found)


@pytest.mark.parametrize("norm", CONVEX)
def test_far_candidates_keep_their_direction(norm):
    images, candidates = problem(9)
    far = images + (candidates - images) * (1e18 if norm is Norm.L2 else 1e3)
    found = project(norm, images, far, 0.5)
    assert bool(found.isfinite().all())
    assert contains(norm, 0.5, images, found)
    assert norm_of(norm, found - images).tolist() == pytest.approx([0.5] * len(images), rel=1e-4)


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, Norm.L1])
@pytest.mark.parametrize("radius_index", [0, 1])
def test_furthest_maximises_a_linear_function_over_ball_and_box(norm, radius_index):
    images, candidates = problem(11, rows=3)
    gradient, radius = candidates - images, RADII[norm][radius_index]
    found = furthest(norm, images, gradient, radius)
    assert contains(norm, radius, images, found)
    gained = ((found - images) * gradient).double().flatten(1).sum(1)
    for row in range(3):
        x, g = images[row].double().flatten().numpy(), gradient[row].double().flatten().numpy()
        if norm is Norm.L2:
            constraint = NonlinearConstraint(lambda u: u @ u, -np.inf, radius**2, jac=lambda u: 2 * u[None])
            best = -minimize(
                lambda u, g=g: -(g @ u),
                np.zeros_like(g),
                jac=lambda u, g=g: -g,
                bounds=Bounds(-x, 1 - x),
                constraints=[constraint],
                method="SLSQP",
                options={"maxiter": 500, "ftol": 1e-12},
            ).fun
        else:
            limit = [radius] if norm is Norm.LINF else [np.inf]
            bounds = [(0, min(r, limit[0])) for r in np.concatenate([1 - x, x])]
            total = ([np.ones(2 * len(g))], [radius]) if norm is Norm.L1 else (None, None)
            best = -linprog(np.concatenate([-g, g]), A_ub=total[0], b_ub=total[1], bounds=bounds).fun
        assert float(gained[row]) == pytest.approx(best, rel=2e-5)


def test_furthest_leaves_values_without_a_gradient():
    images = torch.full((1, 1, 2, 2), 0.5)
    gradient = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]]]])
    for norm in (Norm.LINF, Norm.L2, Norm.L1):
        found = furthest(norm, images, gradient, 9.0)
        assert found.flatten().tolist() == ([0.5, 1.0, 0.5, 0.0])


@quick
@given(st.sampled_from(NORMS), st.integers(0, 10**6), st.sampled_from([1e-30, 1e-3, 1.0, 1e25]))
def test_steepest_has_unit_size_and_beats_every_other_direction(norm, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(4, 3, 4, 5, generator=generator) * scale
    direction = steepest(norm, gradient, 5)
    unit = Norm.L2 if norm is Norm.L0 else norm
    assert norm_of(unit, direction).tolist() == pytest.approx([1.0] * 4, rel=1e-5)
    gain = (direction * (gradient / scale)).flatten(1).sum(1)
    other = torch.randn(gradient.shape, generator=generator)
    if norm is Norm.L0:
        assert norm_of(Norm.L0, direction).tolist() == [5.0] * 4
        other = project(Norm.L0, torch.full_like(other, 0.5), other * 9 + 0.5, 5) - 0.5
    if norm is Norm.L1:  # among the directions that share unit steps between five values
        other = other.flatten(1).sign() * largest(torch.rand(4, 60, generator=generator), 5)
        other = other.view_as(gradient)
    other = other / norm_of(unit, other)[:, None, None, None]
    assert bool((gain >= (other * (gradient / scale)).flatten(1).sum(1) - 1e-5).all())


@pytest.mark.parametrize("norm", NORMS)
def test_a_direction_does_not_depend_on_the_other_rows(norm):
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 1e-25, 1e20, 0.0, 3.0])[:, None, None, None]
    gradient = torch.randn(5, 3, 4, 5, generator=generator) * scales
    together = steepest(norm, gradient, torch.tensor([5, 1, 7, 2, 60]))
    for row, count in enumerate((5, 1, 7, 2, 60)):
        assert torch.equal(together[[row]], steepest(norm, gradient[[row]], count))


def test_steepest_l1_of_one_value_is_the_exact_dual_direction():
    gradient = torch.tensor([[[[0.3, -2.0], [1.0, 0.0]]]])
    assert steepest(Norm.L1, gradient, 1).flatten().tolist() == [0.0, -1.0, 0.0, 0.0]
    assert steepest(Norm.L1, gradient, 2).flatten().tolist() == [0.0, -0.5, 0.5, 0.0]


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_of_nothing_is_nothing(norm):
    gradient = torch.zeros(3, 3, 2, 2)
    gradient[1, 0, 0, 0] = torch.nan
    gradient[2] = 1.0
    direction = steepest(norm, gradient, 2)
    assert bool((direction[:2] == 0).all())
    assert float(direction[2].abs().sum()) > 0


@quick
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(0, 12))
def test_largest_agrees_with_a_stable_sort(seed, levels, count):
    values = torch.randint(0, levels, (5, 9), generator=torch.Generator().manual_seed(seed)).float()
    expected = torch.zeros(5, 9, dtype=torch.bool)
    for row in range(5):
        order = sorted(range(9), key=lambda place, row=row: (-float(values[row, place]), place))
        expected[row, order[:count]] = True
    assert torch.equal(largest(values, count), expected)


def test_largest_takes_a_count_per_row_and_rounds_it_up():
    values = torch.tensor([[3.0, 1.0, 2.0]] * 4)
    chosen = largest(values, torch.tensor([0.0, 1.0, 1.2, 7.0]))
    assert chosen.sum(1).tolist() == [0, 1, 2, 3]
    assert chosen[2].tolist() == [True, False, True]


@pytest.mark.parametrize(("norm", "radius"), GATES)
def test_a_random_start_is_inside_and_its_own(norm, radius):
    images, _ = problem(2, rows=6)
    random = Random(7, sample_keys([f"image {i}" for i in range(6)]))
    rows = torch.arange(6)
    found = random_start(norm, images, radius, random, rows, 0)
    assert contains(norm, radius, images, found)
    again = random_start(norm, images[[4]], radius, random, torch.tensor([4]), 0)
    assert torch.equal(again, found[[4]])
    other = random_start(norm, images, radius, random, rows, 1)
    assert not torch.equal(other, found)
    assert len({tuple((found - images)[row].flatten().tolist()) for row in range(6)}) == 6


@pytest.mark.parametrize("norm", CONVEX)
def test_a_random_start_is_uniform_in_the_ball(norm):
    """The share of points within r of the centre is r^D; away from the box."""
    count, size = 4000, 6
    images = torch.full((count, 1, 2, 3), 0.5)
    random = Random(1, sample_keys([str(i) for i in range(count)]))
    found = random_start(norm, images, 0.4, random, torch.arange(count), 0)
    reach = norm_of(norm, found - images) / 0.4
    for share in (0.1, 0.5, 0.9):
        assert float((reach <= share ** (1 / size)).float().mean()) == pytest.approx(share, abs=0.03)
    assert float((found - images).mean()) == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize("radius", [1e-3, 0.3, 2.0, 4.5])
def test_a_point_of_the_sphere_is_at_its_distance_and_in_its_direction(radius):
    """clip(s delta), s from halvings in float64; 75 values, of which many meet the box at 4.5."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 5, 5, generator=generator)
    images[0] = 0
    delta = torch.randn(images.shape, generator=generator)
    found = onto_sphere(images, images + delta, radius)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert norm_of(Norm.L2, found - images).tolist() == pytest.approx([radius] * 6, rel=1e-5, abs=1e-7)
    low, high = torch.zeros(6, 1, 1, 1, dtype=torch.float64), torch.full((6, 1, 1, 1), 1e5, dtype=torch.float64)
    exact = images.double()
    for _ in range(80):
        middle = (low + high) / 2
        moved = (exact + middle * delta.double()).clamp(0, 1) - exact
        shorter = moved.square().sum((1, 2, 3), keepdim=True).sqrt() < radius
        low, high = torch.where(shorter, middle, low), torch.where(shorter, high, middle)
    assert float((found - (exact + low * delta.double()).clamp(0, 1)).abs().max()) < 1e-4


def test_where_the_box_leaves_no_way_in_the_direction_the_sphere_is_met_elsewhere():
    black, half = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    half[..., :2] = 1
    outward = [(black, black - 1), (half, 2 * half - 0.5), (black, black), (black, torch.eye(4).expand(1, 1, 4, 4))]
    for images, candidates in outward:
        for radius in (0.5, 2.5, 3.9, 4.0):
            found = onto_sphere(images, candidates, radius)
            assert float(norm_of(Norm.L2, found - images)) == pytest.approx(radius, rel=1e-5)
            assert float(found.min()) >= 0
            assert float(found.max()) <= 1
    grey = torch.full((1, 1, 4, 4), 0.25)
    for candidates in (grey, grey - 1, grey + 1):
        assert torch.equal(onto_sphere(grey, candidates, 3.5), torch.ones_like(grey))  # its furthest corner is at 3
