"""Smoothing guided by an image, against the matrices of equations 5 to 9 written out pixel by pixel."""

from __future__ import annotations

import gc
import itertools
import math
import weakref

import numpy as np
import pytest
import torch

from charpy.errors import SpecError
from charpy.smoothing import Kernel, Smoother, Solver

NOBODY = torch.zeros(0, dtype=torch.int64)


def adjacency(image: torch.Tensor, kernel: Kernel, scale: float, neighbours: int) -> np.ndarray:
    """W of one image `(C, H, W)`, edge by edge (eq. 5)."""
    _, height, width = image.shape
    weights = np.zeros((height * width,) * 2)
    places = list(itertools.product(range(height), range(width)))
    for (i, one), (j, other) in itertools.permutations(enumerate(places), 2):
        far = math.dist(one, other)
        if far > (1.01 if neighbours == 4 else 1.5):
            continue
        apart = float((image[:, *one] - image[:, *other]).double().norm())
        if kernel is Kernel.LAPLACIAN:
            weights[i, j] = math.exp(-apart / scale) * math.exp(-far)
        else:
            weights[i, j] = math.exp(-((apart / scale) ** 2) / 2) * math.exp(-(far**2) / 2)
    return weights


def dense(image: torch.Tensor, alpha: float, **graph) -> np.ndarray:
    """The matrix of s (eq. 8)."""
    weights = adjacency(image, **graph)
    root = np.diag(weights.sum(1) ** -0.5)
    return (1 - alpha) * np.linalg.inv(np.eye(len(weights)) - alpha * root @ weights @ root)


GRAPHS = [
    {"kernel": kernel, "scale": scale, "neighbours": neighbours}
    for kernel, scale, neighbours in itertools.product(Kernel, (0.1, 0.5), (4, 8))
]


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 5), (2, 1, 8), (3, 9, 1)])
def test_it_is_the_dense_inverse(shape, graph, solver):
    generator = torch.Generator().manual_seed(1)
    images, signal = (torch.rand(3, *shape, generator=generator) for _ in range(2))
    for alpha in (0.5, 0.95):
        smoother = Smoother(images, alpha, solver=solver, **graph)
        for row in range(3):
            matrix = dense(images[row], alpha, **graph)
            expected = (matrix @ signal[row].flatten(1).double().numpy().T).T.reshape(shape)
            normal = expected / (matrix @ np.ones(len(matrix))).reshape(shape[1:])
            np.testing.assert_allclose(smoother.solve(signal)[row], expected, atol=1e-5)
            np.testing.assert_allclose(smoother(signal)[row], normal, atol=1e-5)


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_constants_stay_and_alpha_of_zero_changes_nothing(solver):
    images = torch.rand(4, 3, 8, 8)
    signal = torch.randn(4, 3, 8, 8)
    level = torch.randn(4, 3, 1, 1).expand(-1, -1, 8, 8)
    torch.testing.assert_close(Smoother(images, 0.97, solver=solver)(level), level, atol=2e-5, rtol=0)
    torch.testing.assert_close(Smoother(images, 0.0, solver=solver)(signal), signal)
    nearly = Smoother(images, 1e-4, solver=solver)(signal)
    assert (nearly - signal).abs().max() < 1e-3


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_it_is_symmetric_before_normalisation_and_its_derivative_is_the_adjoint(solver):
    images, one, other = (torch.rand(2, 3, 7, 6, dtype=torch.float64) for _ in range(3))
    smoother = Smoother(images, 0.95, neighbours=8, solver=solver, tolerance=1e-12, iterations=200)
    torch.testing.assert_close((smoother.solve(one) * other).sum(), (one * smoother.solve(other)).sum())
    leaf = one.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad((smoother(leaf) * other).sum(), leaf)
    torch.testing.assert_close((adjoint * one).sum(), (smoother(one) * other).sum())
    torch.testing.assert_close(adjoint, smoother.solve(other / smoother.total))


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_gradients_of_first_and_second_order(solver):
    images, signal = (torch.rand(2, 2, 3, 4, dtype=torch.float64) for _ in range(2))
    smoother = Smoother(images, 0.9, solver=solver, tolerance=1e-14, iterations=200)
    signal.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: smoother(z).square(), signal)
    assert torch.autograd.gradgradcheck(lambda z: smoother(z).square(), signal)
    assert torch.autograd.gradcheck(smoother.roughness, signal)


def test_roughness_is_the_sum_over_edges():
    graph = {"kernel": Kernel.GAUSSIAN, "scale": 0.3, "neighbours": 8}
    images, signal = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found = Smoother(images, 0.9, **graph).roughness(signal)
    for row in range(2):
        weights = adjacency(images[row], **graph)
        scaled = signal[row].flatten(1).numpy().T / np.sqrt(weights.sum(1))[:, None]
        apart = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
        assert float(found[row]) == pytest.approx((weights * apart).sum())


def test_a_signal_does_not_cross_an_edge_of_the_guide():
    """Black beside white: an impulse on one side stays there; over a flat image it spreads."""
    halves = torch.zeros(1, 1, 8, 8)
    halves[..., 4:] = 1
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[..., 4, 3] = 1
    kept, spread = (Smoother(guide, 0.99, scale=0.05)(impulse) for guide in (halves, torch.zeros(1, 1, 8, 8)))
    assert kept[..., 4:].abs().max() < 1e-6 < 0.01 < spread[..., 4, 4].item()
    assert kept[..., :4].min() > 1e-3


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 2, 1), (1, 8, 8)])
@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_flat_images_and_single_pixels(value, shape, solver):
    smoother = Smoother(torch.full((2, *shape), value), 0.95, neighbours=8, solver=solver)
    signal = torch.randn(2, *shape)
    smooth = smoother(signal)
    assert bool(smooth.isfinite().all())
    assert bool((smooth.amax() <= signal.amax() + 1e-5) & (smooth.amin() >= signal.amin() - 1e-5))
    if shape[1:] == (1, 1):
        torch.testing.assert_close(smooth, signal)


def test_pixels_that_nothing_is_like_stay_alone():
    """Weights that underflow: every pixel is an island, and nothing is smoothed."""
    board = (torch.arange(64).view(1, 1, 8, 8) % 2 + torch.arange(8).view(8, 1) % 2) % 2.0
    signal = torch.randn(1, 1, 8, 8)
    smoother = Smoother(board, 0.95, kernel=Kernel.GAUSSIAN, scale=1e-3)
    torch.testing.assert_close(smoother(signal), signal)
    assert smoother.roughness(signal).tolist() == [0.0]


def test_a_row_is_the_same_alone_and_among_others():
    images, signal = torch.rand(5, 3, 20, 20), torch.randn(5, 3, 20, 20)
    images[1] = 0
    smoother = Smoother(images, 0.99)
    together = smoother(signal)
    for row in range(5):
        alone = Smoother(images[row : row + 1], 0.99)(signal[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)
    chosen = torch.tensor([3, 1])
    assert torch.equal(smoother.rows(chosen)(signal[chosen]), together[chosen])


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_a_part_of_a_part_is_its_own(solver):
    """Not what the whole was asked for before it."""
    images, signal = torch.rand(4, 1, 5, 6), torch.randn(4, 1, 5, 6)
    smoother = Smoother(images, 0.9, solver=solver)
    together = smoother(signal)
    smoother.rows(torch.tensor([1, 0]))
    part = smoother.rows(torch.tensor([3, 2]))
    assert torch.equal(part.rows(torch.tensor([1, 0]))(signal[[2, 3]]), together[[2, 3]])


def test_parts_are_forgotten():
    """Samples finish one after the other: the factors of every choice before the last must not stay."""
    smoother = Smoother(torch.rand(5, 1, 6, 6), 0.9)
    parts = [weakref.ref(smoother.rows(torch.arange(count))) for count in (5, 4, 3, 2)]
    gc.collect()
    assert [part() is None for part in parts] == [True, True, True, False]


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_no_rows_at_all(solver):
    images = torch.rand(2, 3, 5, 6)
    for smoother in (Smoother(images[:0], 0.9, solver=solver), Smoother(images, 0.9, solver=solver).rows(NOBODY)):
        assert smoother(images[:0]).shape == (0, 3, 5, 6)
        assert smoother.roughness(images[:0]).shape == (0,)


@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_an_image_with_nan_is_its_own_trouble(solver):
    images, signal = torch.rand(3, 1, 6, 5), torch.randn(3, 1, 6, 5)
    odd = images.clone()
    odd[1, 0, 2, 2] = torch.nan
    found = Smoother(odd, 0.9, solver=solver)(signal)
    assert bool(found[1].isnan().any())
    assert torch.equal(found[[0, 2]], Smoother(images, 0.9, solver=solver)(signal)[[0, 2]])


@pytest.mark.parametrize("kernel", Kernel)
@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_weights_that_all_but_underflow(solver, kernel):
    """A pixel whose weights add up to 1e-44 has a root of 1e22, whose square float32 does not hold."""
    board = (torch.arange(64).view(1, 1, 8, 8) % 2 + torch.arange(8).view(8, 1) % 2) % 2.0
    signal = torch.randn(1, 1, 8, 8)
    for scale in torch.linspace(0.0085, 0.014, 12).tolist() if kernel is Kernel.LAPLACIAN else (0.07, 0.0705, 0.075):
        smoother = Smoother(board, 0.95, kernel=kernel, scale=scale, solver=solver)
        assert bool(smoother(signal).isfinite().all())
        assert float(smoother.roughness(signal)) <= 4.001 * float(signal.square().sum())


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("solver", [Solver.EXACT, Solver.CG])
def test_it_is_linear_at_every_size(solver, size):
    """Gradients of odd models, whose squares float32 does not hold."""
    images, signal = torch.rand(2, 2, 6, 5), torch.randn(2, 2, 6, 5)
    smoother = Smoother(images, 0.95, solver=solver)
    torch.testing.assert_close(smoother(signal * size) / size, smoother(signal), atol=1e-4, rtol=1e-4)


def test_fifty_iterations_are_the_papers_precision_on_a_large_image():
    images, signal = torch.rand(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    exact = Smoother(images.double(), 0.997, iterations=2000, tolerance=1e-13)(signal.double())
    for iterations, most in ((50, 0.1), (400, 1e-3)):
        found = Smoother(images, 0.997, iterations=iterations)(signal)
        assert (found - exact).norm() < most * exact.norm()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"alpha": 1.0}, "alpha"), ({"alpha": -0.1}, "alpha"), ({"scale": 0.0}, "scale"), ({"neighbours": 6}, "neighb")],
)
def test_values_out_of_range_are_refused_by_name(change, named):
    with pytest.raises(SpecError, match=named):
        Smoother(torch.rand(1, 1, 4, 4), **{"alpha": 0.5, **change})


def test_every_perturbation_is_the_smoothing_of_another():
    """s_hat has an inverse: that r = s_hat(z) is smooth (eq. 17) keeps no r out."""
    images, wanted = torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    smoother = Smoother(images, 0.95)
    matrix = torch.stack([torch.from_numpy(dense(image, 0.95, **GRAPHS[0])) for image in images])
    z = torch.linalg.solve(matrix, (smoother.total * wanted).flatten(2).mT).mT.view_as(wanted)
    torch.testing.assert_close(smoother(z), wanted)
