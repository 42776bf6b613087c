"""L-BFGS attack: the minimiser against SciPy's L-BFGS-B, the known optimum, and an effect of every parameter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from charpy.geometry import norm_of
from charpy.search.quasi_newton import minimiser, step
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.optimality.lbfgs import Lbfgs
from charpy_plugins.wrappers.torch_module import TorchModel

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(8, 3, 4, 4, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 4, 4, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"grid": Grid.NONE, "radius": 1e3, "norm": Norm.L2}
STARTS = torch.rand(5, 1, 1, 6, generator=GENERATOR)
CENTRES = torch.rand(5, 1, 1, 6, generator=GENERATOR) * 2 - 0.5  # many outside the box
SCALES = torch.logspace(0, 2, 6)


def curved():
    """A small network whose boundaries are far from linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [torch.nn.Flatten(), torch.nn.Linear(48, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6)]
        with torch.no_grad():
            layers[1].weight.mul_(6)
    return TorchModel.from_module(torch.nn.Sequential(*layers), input_shape=(3, 4, 4), num_classes=6)


def valley(x, centre, module):
    """A badly scaled quadratic with a coupling, whose minimum lies on walls of the box."""
    gap = x - centre
    return (module.as_tensor(SCALES, dtype=x.dtype) * gap * gap).sum(-1) + 3 * (gap[..., 0] + gap[..., 1]) ** 2


def minimised(starts, centres, memory=5, calls=120):
    state = {**minimiser(starts, memory), "sample": torch.arange(len(starts))}
    best = torch.full((len(starts),), torch.inf)
    for _ in range(calls):
        given = state["trial"].clone().requires_grad_(True)
        value = valley(given, centres, torch).flatten(1).sum(1)
        slope = torch.autograd.grad(value.sum(), given)[0]
        best = torch.minimum(best, value.detach())
        step(state, value.detach(), slope)
        assert bool(((state["trial"] >= 0) & (state["trial"] <= 1)).all())
    return best


def test_the_minimiser_agrees_with_scipy_on_walls_of_the_box():
    found = minimised(STARTS, CENTRES)
    for row in range(5):
        centre = CENTRES[row].flatten().double()

        def value(x, centre=centre):
            given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            result = valley(given, centre, torch)
            result.backward()
            return result.item(), given.grad.numpy()

        start = STARTS[row].flatten().double().numpy()
        best = minimize(value, start, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 6).fun
        assert np.isclose(float(found[row]), best, rtol=1e-3, atol=1e-4), row


def test_the_minimiser_treats_each_row_alone():
    whole = minimised(STARTS, CENTRES, calls=15)
    assert torch.equal(minimised(STARTS[2:3], CENTRES[2:3], calls=15), whole[2:3])


def test_curvature_is_remembered():
    """With a memory the badly scaled valley is solved in few calls; the plain gradient needs many more."""
    steep = torch.stack([minimised(STARTS, CENTRES.clamp(0.2, 0.8), memory=n, calls=25) for n in (1, 6)])
    assert float(steep[1].mean()) < 0.5 * float(steep[0].mean()) + 1e-4


def test_reaches_the_known_optimum(attack_with):
    trial = attack_with(Lbfgs(), MODEL, IMAGES, queries=600, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(Norm.L2, IMAGES, LABELS)
    size = norm_of(Norm.L2, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.05


def test_a_targeted_attack_reaches_the_target(attack_with):
    targets = (LABELS + 1) % 4
    trial = attack_with(Lbfgs(), MODEL, IMAGES, queries=600, targets=targets, **REAL)
    assert all(trial.broken)
    assert torch.equal(MODEL.predict(trial.found.images).argmax(1), targets)


def test_steps_searches_and_line_search_bound_the_queries(attack_with):
    params = Lbfgs.Params(steps=3, searches=2, line_search=0)
    assert int(attack_with(Lbfgs(params), MODEL, IMAGES, queries=500, **REAL).found.queries.max()) <= 6
    params = Lbfgs.Params(steps=3, searches=5, constant=5.0, line_search=4)
    trial = attack_with(Lbfgs(params), MODEL, IMAGES, queries=500, **REAL)
    assert all(trial.broken)
    assert 15 < int(trial.found.queries.max()) <= 19


def test_the_line_search_ends_at_the_boundary(attack_with):
    sizes = [
        norm_of(
            Norm.L2,
            attack_with(
                Lbfgs(Lbfgs.Params(searches=4, constant=1.0, line_search=n)), MODEL, IMAGES, **REAL
            ).found.images
            - IMAGES,
        )
        for n in (0, 10)
    ]
    assert float(sizes[1].mean()) < float(sizes[0].mean())


@pytest.mark.parametrize("changed", [{"constant": 0.3}, {"memory": 1}, {"searches": 3}, {"steps": 3}])
def test_every_parameter_changes_the_result(changed, attack_with):
    usual, other = (
        attack_with(
            Lbfgs(Lbfgs.Params(**{"line_search": 0, "searches": 5, **given})), curved(), IMAGES, queries=100, **REAL
        ).found
        for given in ({}, changed)
    )
    assert not torch.equal(usual.images, other.images)
