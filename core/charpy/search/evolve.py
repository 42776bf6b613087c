"""Runs an evolutionary attack: in lock-step over all samples, or by the canonical libraries."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Task
from charpy.search import canonical, cma_es, differential_evolution
from charpy.search.encoding import Encoding, EngineName, EvolutionParams, OptimiserName, RepairName, evaluate
from charpy.search.population import Optimiser, search


def evolve(task: Task, encoding: Encoding, params: EvolutionParams) -> None:
    """Search every sample of `task` until its budget is spent or the oracle has recorded a witness."""
    engines = {
        EngineName.LOCKSTEP: _lockstep,
        EngineName.PYCMA: canonical.pycma,
        EngineName.SCIPY: canonical.scipy_de,
    }
    engines[params.engine](task, encoding, params)


def _lockstep(task: Task, encoding: Encoding, params: EvolutionParams) -> None:
    optimiser: Optimiser
    if params.optimiser is OptimiserName.DE:
        optimiser = differential_evolution.DifferentialEvolution(
            encoding.box,
            task.random,
            population=params.population,
            recombination=params.recombination,
            clipped=encoding.bounded if params.repair is RepairName.CLIP else None,
        )
    else:
        optimiser = cma_es.CMAES(
            encoding.box,
            encoding.start,
            encoding.sigma0,
            task.random,
            population=params.population,
            resolution=encoding.resolution if params.patience is not None else 0.0,
        )
    search(
        optimiser,
        lambda genes, sample: evaluate(task, encoding, genes, sample, params.fitness),
        lambda sample: task.oracle.active[sample],
        torch.arange(len(task.images), device=task.images.device),
        rows=max(512, 2 * task.oracle.batch),
        patience=params.patience,
        generations=params.generations,
    )
