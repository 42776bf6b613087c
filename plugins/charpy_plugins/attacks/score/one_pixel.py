"""The one-pixel attack (Su, Vargas & Sakurai 2019)."""

from __future__ import annotations

from dataclasses import replace

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.differential_evolution import DifferentialEvolution
from charpy.search.encoding import FitnessName, evaluate
from charpy.search.population import search
from charpy.threat import Access, Norm
from charpy_plugins.attacks.score.few_pixel import FewPixelEncoding

PAPER = "Su, Vargas & Sakurai 2019, section III"


class OnePixel(Attack):
    """Overwrites one pixel, whose place and colour differential evolution searches (L0).

    few_pixel at th = 1 by the settings of its forerunner: minimises the confidence of the true class (maximises that of
    the target) over genes [row, column, c1..cC] with F = 0.5 and no crossover; a child replaces its parent if it is at
    least as good. At every level it changes one pixel only: what it reaches at th = 1 is all that it reaches.

    Differs from the paper: a mutant starts from the best member, not from a random one; the first places and colours
    are a Latin hypercube of their ranges; genes out of range are drawn anew. These are the settings of `few_pixel`.
    """

    norms = frozenset({Norm.L0})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Su, Vargas & Sakurai 2019, One pixel attack for fooling deep neural networks (arXiv:1710.08864)"

    class Params(BaseParams):
        """Parameters of the one-pixel attack."""

        population: int = param(
            400, ge=4, le=100_000, description="candidates in a generation", unit="candidates", source=PAPER
        )
        generations: int = param(100, ge=1, description="at most this many", unit="generations", source=PAPER)
        scale: float = param(0.5, gt=0, le=2, description="how far a mutant goes along a difference (F)", source=PAPER)
        fitness: FitnessName = param(FitnessName.CONFIDENCE, description="what is minimised", source=PAPER)

    def run(self, task: Task) -> None:
        """Search one pixel of every sample, whatever the level."""
        single = replace(task, threat=task.threat.model_copy(update={"radius": 1.0}))
        encoding = FewPixelEncoding(single, 1.0)
        optimiser = DifferentialEvolution(
            encoding.box,
            task.random,
            population=self.params.population,
            dither=(self.params.scale, self.params.scale),
        )
        search(
            optimiser,
            lambda genes, sample: evaluate(single, encoding, genes, sample, self.params.fitness),
            lambda sample: task.oracle.active[sample],
            torch.arange(len(task.images), device=task.images.device),
            rows=max(512, 2 * task.oracle.batch),
            generations=self.params.generations,
        )
