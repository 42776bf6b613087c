"""The lock-step CMA-ES against pycma, the canonical implementation, and its own invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charpy.random import Random, sample_keys
from charpy.search.box import Box
from charpy.search.cma_es import CMAES, Constants, default_population
from charpy.search.population import search

TRIALS = 41


def sphere(x):
    return (x**2).sum(-1)


def ellipsoid(x):
    scale = 10.0 ** (6 * np.arange(x.shape[-1]) / (x.shape[-1] - 1))
    return ((torch.as_tensor(scale) if torch.is_tensor(x) else scale) * x**2).sum(-1)


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def lockstep_evaluations(function, dimension, bounds, start, sigma0, target, *, separable, limit=20_000):
    """Evaluations to target of each of `TRIALS` searches; infinity where it was not reached."""
    random = Random(7, sample_keys([f"trial {i}" for i in range(TRIALS)]))
    low, high = (torch.full((1, dimension), bound) for bound in bounds)
    optimiser = CMAES(Box(low, high), torch.full((TRIALS, dimension), start), sigma0, random, separable=separable)
    spent, reached = torch.zeros(TRIALS), torch.full((TRIALS,), torch.inf)

    def evaluate(genes, sample):
        assert ((genes >= low) & (genes <= high)).all(), "a candidate left the box"
        values = function(genes.double())
        first = (values < target).int().argmax(1)
        hit = (values < target).any(1) & reached[sample].isinf()
        reached[sample[hit]] = spent[sample[hit]] + first[hit] + 1
        spent[sample] += values.shape[1]
        return values.float()

    search(optimiser, evaluate, lambda s: reached[s].isinf() & (spent[s] < limit), torch.arange(TRIALS))
    return reached.numpy()


def pycma_evaluations(function, dimension, bounds, start, sigma0, target, *, separable, trials, limit=20_000):
    cma = pytest.importorskip("cma")
    reached = []
    for trial in range(trials):
        draw = np.random.default_rng(trial)
        options = {
            "bounds": list(bounds), "verbose": -9, "seed": math.nan,
            "randn": lambda *n, draw=draw: draw.standard_normal(n),
            "CMA_diagonal": separable, "tolfun": 0, "tolx": 0, "tolfunhist": 0, "tolstagnation": 10**9,
            "tolflatfitness": 10**9,
        }  # fmt: skip
        strategy = cma.CMAEvolutionStrategy([start] * dimension, sigma0, options)
        spent, found = 0, math.inf
        while spent < limit and math.isinf(found):
            points = strategy.ask()
            values = [float(function(np.asarray(point))) for point in points]
            hits = [i for i, value in enumerate(values) if value < target]
            found = spent + hits[0] + 1 if hits else math.inf
            spent += len(points)
            strategy.tell(points, values)
        reached.append(found)
    return np.array(reached)


CASES = {
    "sphere": (sphere, 10, (-5.0, 5.0), 3.0, 2.0, 1e-6, False),
    "ellipsoid": (ellipsoid, 10, (-5.0, 5.0), 3.0, 2.0, 1e-1, False),
    "rosenbrock": (rosenbrock, 8, (-5.0, 5.0), 0.0, 0.5, 1e-4, False),
    "sphere, optimum on the bound": (sphere, 10, (0.0, 5.0), 3.0, 2.0, 1e-4, False),
    "ellipsoid, 20 dimensions": (ellipsoid, 20, (-1.0, 5.0), 3.0, 2.0, 1e2, False),
    "separable sphere": (sphere, 60, (-5.0, 5.0), 3.0, 2.0, 1e-6, True),
    "separable ellipsoid": (ellipsoid, 52, (-5.0, 5.0), 3.0, 2.0, 1.0, True),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # cma warns when matplotlib is not installed
@pytest.mark.parametrize("case", CASES)
def test_needs_as_many_evaluations_as_pycma(case):
    function, dimension, bounds, start, sigma0, target, separable = CASES[case]
    ours = lockstep_evaluations(function, dimension, bounds, start, sigma0, target, separable=separable)
    theirs = pycma_evaluations(
        function, dimension, bounds, start, sigma0, target, separable=separable, trials=15 if dimension < 20 else 5
    )
    assert np.median(ours) == pytest.approx(np.median(theirs), rel=0.2)


def test_default_population_is_the_tutorials():
    assert [default_population(n) for n in (5, 10, 50, 3072)] == [8, 10, 15, 28]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dimension", [3, 10, 50])
def test_constants_equal_pycma(dimension):
    cma = pytest.importorskip("cma")
    reference = cma.CMAEvolutionStrategy([0.0] * dimension, 1.0, {"verbose": -9, "seed": math.nan}).sp
    ours = Constants.of(dimension, reference.popsize, separable=False, device=torch.device("cpu"))
    assert ours.weights.tolist() == pytest.approx(list(reference.weights), rel=1e-5)
    assert (ours.cc, ours.c1, ours.cmu) == pytest.approx((reference.cc, reference.c1, reference.cmu), rel=1e-6)
    separable = Constants.of(dimension, reference.popsize, separable=True, device=torch.device("cpu"))
    assert (separable.cc, separable.c1, separable.cmu) == pytest.approx(
        (reference.cc_sep, reference.c1_sep, reference.cmu_sep), rel=1e-6
    )


@pytest.mark.parametrize("dimension", [5, 7, 9, 15, 50, 60])
def test_a_search_does_not_depend_on_its_neighbours(dimension):
    """Bit for bit: alone, with others, and in another order."""

    def course(samples, rows):
        random = Random(3, sample_keys([f"s{i}" for i in range(9)]))
        box = Box(torch.full((1, dimension), -2.0), torch.full((1, dimension), 3.0))
        optimiser = CMAES(box, torch.full((9, dimension), 1.0), 0.5, random)
        spent, seen = torch.zeros(9), {}

        def evaluate(genes, sample):
            for nr, which in enumerate(sample.tolist()):
                seen.setdefault(which, []).append(genes[nr].clone())
            spent[sample] += genes.shape[1]
            return genes.square().amax(2)

        search(optimiser, evaluate, lambda s: spent[s] < 400 + 10 * s, torch.tensor(samples), rows=rows)
        return {which: torch.cat(pieces) for which, pieces in seen.items()}

    together = course(list(range(9)), 512)
    reordered = course([8, 2, 5, 0, 1, 3, 4, 6, 7], 30)
    alone = course([5], 512)
    assert torch.equal(together[5], alone[5])
    assert all(torch.equal(together[i], reordered[i]) for i in range(9))


def test_converged_searches_start_over_elsewhere():
    random = Random(3, sample_keys(["a"]))
    box = Box(torch.full((1, 4), 0.0), torch.full((1, 4), 10.0))
    optimiser = CMAES(box, torch.full((1, 4), 1.0), 0.5, random, resolution=0.5)
    spent, spread = torch.zeros(1), []

    def evaluate(genes, sample):
        spent[sample] += genes.shape[1]
        spread.append(float((genes.mean((0, 1)) - 1).abs().max()))
        return sphere(genes - 1)

    search(optimiser, evaluate, lambda s: spent[s] < 2000, torch.arange(1))
    assert min(spread[:5]) < 1
    assert max(spread) > 3, "no restart ever left the start"
