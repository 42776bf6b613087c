"""The canonical optimisers, one sample at a time: pycma's CMA-ES and SciPy's differential evolution.

They are the reference that the lock-step optimisers are tested against, and reproduce the published assessment.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from charpy.interfaces.attack import Task
from charpy.search.box import Box
from charpy.search.differential_evolution import default_population
from charpy.search.encoding import Encoding, EvolutionParams, evaluate


def pycma(task: Task, encoding: Encoding, params: EvolutionParams) -> None:
    """CMA-ES by `cma.CMAEvolutionStrategy` with box bounds; diagonal beyond the lock-step's full-covariance limit."""
    import cma
    from threadpoolctl import threadpool_limits

    from charpy.search.cma_es import FULL_COVARIANCE_LIMIT

    dimension = encoding.start.shape[1]
    with threadpool_limits(limits=1, user_api="blas"):  # contended BLAS threads make small matrices 60 times slower
        for index in range(len(task.images)):
            box, draw = _bounds(encoding.box, index), _generator(task, index)
            options = {
                "bounds": [box[0], box[1]],
                "verbose": -9,
                "seed": math.nan,  # with any other value cma reseeds numpy's global generator
                "randn": lambda *size, draw=draw: draw.standard_normal(size),
                "CMA_diagonal": dimension > FULL_COVARIANCE_LIMIT,
                "maxfevals": math.inf,
            }
            if params.population is not None:
                options["popsize"] = params.population
            start = encoding.start[index].double().cpu().numpy()
            strategy = cma.CMAEvolutionStrategy(start, encoding.sigma0, options)
            generation = 0
            while _goes_on(task, index, generation, params) and not strategy.stop():
                points = strategy.ask()
                strategy.tell(points, _fitness(task, encoding, np.stack(points), index, params).tolist())
                generation += 1


def scipy_de(task: Task, encoding: Encoding, params: EvolutionParams) -> None:
    """DE by `scipy.optimize.differential_evolution`: best1bin, dither, CR 1, no polish, no convergence stop."""
    from scipy.optimize import differential_evolution

    dimension = encoding.start.shape[1]
    population = params.population or default_population(dimension)
    for index in range(len(task.images)):
        low, high = _bounds(encoding.box, index)
        differential_evolution(
            lambda genes, index=index: _fitness(task, encoding, np.atleast_2d(genes.T), index, params),
            list(zip(low, high, strict=True)),
            strategy="best1bin",
            maxiter=params.generations or 10**9,
            popsize=max(1, round(population / dimension)),
            tol=0,
            atol=-1,
            mutation=(0.5, 1.0),
            recombination=params.recombination,
            rng=_generator(task, index),
            polish=False,
            init="latinhypercube",
            updating="deferred",
            vectorized=True,
            callback=lambda _, convergence=0.0, index=index: not bool(task.oracle.active[index]),
        )


def _fitness(task: Task, encoding: Encoding, points: np.ndarray, index: int, params: EvolutionParams) -> np.ndarray:
    genes = torch.from_numpy(np.ascontiguousarray(points)).to(encoding.start)[None]
    sample = torch.tensor([index], device=encoding.start.device)
    values: np.ndarray = evaluate(task, encoding, genes, sample, params.fitness)[0].double().cpu().numpy()
    return np.where(np.isfinite(values), values, 1e30)


def _goes_on(task: Task, index: int, generation: int, params: EvolutionParams) -> bool:
    return bool(task.oracle.active[index]) and generation < (params.generations or math.inf)


def _bounds(box: Box, index: int) -> tuple[list[float], list[float]]:
    row = index if len(box.lower) > 1 else 0
    return box.lower[row].double().tolist(), box.upper[row].double().tolist()


def _generator(task: Task, index: int) -> np.random.Generator:
    words = task.random.words(torch.tensor([index], device=task.images.device), 0, 4)[0].cpu().numpy()
    return np.random.default_rng(words.view(np.uint32).tolist())
