"""What an evolutionary attack is made of: an encoding of images as genes, and the parameters all of them share."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import torch
from pydantic import model_validator

from charpy.interfaces.attack import Task
from charpy.interfaces.component import Params, param
from charpy.search.box import Box


class OptimiserName(StrEnum):
    """Which evolutionary algorithm."""

    CMA_ES = "cma-es"
    DE = "de"


class EngineName(StrEnum):
    """`lockstep`: all samples in one stream of batches; `pycma`, `scipy`: the canonical code, one sample at a time."""

    LOCKSTEP = "lockstep"
    PYCMA = "pycma"
    SCIPY = "scipy"


class RepairName(StrEnum):
    """What DE does with a gene outside its range: draw it anew (the dual paper), or bring it back to the bound."""

    REDRAW = "redraw"
    CLIP = "clip"


class FitnessName(StrEnum):
    """What is minimised: the true class's probability (the dual paper), or its margin over the best other score."""

    CONFIDENCE = "confidence"
    MARGIN = "margin"


DUAL = "Kotyan & Vargas 2020, section V-A"


class EvolutionParams(Params):
    """Parameters that the evolutionary attacks share."""

    optimiser: OptimiserName = param(OptimiserName.CMA_ES, description="evolutionary algorithm", source=DUAL)
    engine: EngineName = param(
        EngineName.LOCKSTEP, description="lockstep, or the canonical code of that optimiser", source="ours"
    )
    fitness: FitnessName = param(
        FitnessName.CONFIDENCE, description="what is minimised", source="Kotyan & Vargas 2020, section III"
    )
    population: int | None = param(
        None,
        ge=4,
        le=100_000,
        description="candidates in a generation; the optimiser's default for the dimension if not given "
        "(CMA-ES 4 + 3 ln D; DE max(5, max(1, 400 // D) D))",
        unit="candidates",
        source="Hansen 2016, eq. 48; the dual assessment's released code",
    )
    generations: int | None = param(
        None,
        ge=1,
        description="at most this many; the query budget alone if not given",
        unit="generations",
        source=DUAL,
    )
    recombination: float = param(
        1.0,
        gt=0,
        le=1,
        description="DE: chance that a gene comes from the mutant (CR)",
        unit="probability",
        source=DUAL,
    )
    repair: RepairName = param(
        RepairName.REDRAW, description="DE: a gene out of range; a place is drawn anew in any case", source=DUAL
    )
    patience: int | None = param(
        None,
        ge=1,
        description="lockstep: start over after this many generations without a better best; never if not given",
        unit="generations",
        source="ours",
    )

    @model_validator(mode="after")
    def _engine_has_the_optimiser(self) -> EvolutionParams:
        canonical = {EngineName.PYCMA: OptimiserName.CMA_ES, EngineName.SCIPY: OptimiserName.DE}
        if canonical.get(self.engine, self.optimiser) is not self.optimiser:
            raise ValueError(f"engine {self.engine} is the canonical {canonical[self.engine]}, not {self.optimiser}")
        return self


class Encoding(Protocol):
    """How a vector of genes becomes an image.

    Attributes:
        box: feasible genes, `(N, D)` or `(1, D)` bounds.
        start: `(N, D)` genes where CMA-ES begins.
        sigma0: its first step size.
        resolution: half the distance between two genes that give different images.
        bounded: bool `(D,)`, genes whose bounds mean something (a colour's), unlike a place's.
    """

    box: Box
    start: torch.Tensor
    sigma0: float
    resolution: float
    bounded: torch.Tensor

    def decode(self, genes: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Candidates `(B * P, C, H, W)` of `genes` `(B, P, D)` for the samples `(B,)`."""


def evaluate(task: Task, encoding: Encoding, genes: torch.Tensor, sample: torch.Tensor, fitness: str) -> torch.Tensor:
    """Fitness `(B, P)` of `genes` `(B, P, D)`; +inf where the oracle refuses."""
    owner = sample.repeat_interleave(genes.shape[1])
    return task.oracle.fitness(encoding.decode(genes, sample), owner, fitness).view(genes.shape[:2])
