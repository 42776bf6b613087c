"""Differential evolution for many problems at once (Storn & Price 1997), as the dual assessment sets it.

best/1/bin with a dithered F ~ U(0.5, 1) per generation and CR = 1, so a trial is `best + F (a - b)` in every gene;
genes outside the box are drawn anew inside it (the repair of Kotyan & Vargas 2020, section V-A); synchronous update.
"""

from __future__ import annotations

import torch

from charpy.random import Random
from charpy.search.box import Box
from charpy.search.population import Optimiser
from charpy.search.stream import State


def default_population(dimension: int) -> int:
    """max(5, max(1, 400 // D) * D): 400 for one RGB pixel, D for the threshold attack."""
    return max(5, max(1, 400 // dimension) * dimension)


class DifferentialEvolution(Optimiser):
    """Batched DE inside a box.

    Args:
        box: bounds of the N samples, `(N, D)` or `(1, D)`.
        random: the samples' streams.
        population: P, at least 4; `default_population` when None.
        recombination: CR, the chance that a gene is taken from the mutant (one gene always is).
        dither: range of F.
        clipped: bool `(D,)`, genes that are brought back to the bound they crossed instead of being drawn anew.
    """

    def __init__(
        self,
        box: Box,
        random: Random,
        *,
        population: int | None = None,
        recombination: float = 1.0,
        dither: tuple[float, float] = (0.5, 1.0),
        clipped: torch.Tensor | None = None,
    ) -> None:
        self.box, self.random = box, random
        self.dimension = box.lower.shape[1]
        self.population = population or default_population(self.dimension)
        self.recombination, self.dither, self.clipped = recombination, dither, clipped

    def start(self, sample: torch.Tensor, restart: torch.Tensor) -> State:
        """A Latin hypercube of the box.

        Each gene visits its P strata once, in the order of an affine map i -> a i + b (mod P) with random a coprime to
        P and random b: a permutation without a sort.
        """
        count, size, n = len(sample), self.population, self.dimension
        draws = -1 - 4 * restart
        units = [a for a in range(1, size + 1) if _coprime(a, size)]
        coprime = torch.tensor(units, dtype=torch.int64, device=sample.device)
        stride = coprime[self.random.integers(sample, draws, len(units), n)][:, None]
        offset = self.random.integers(sample, draws - 1, size, n)[:, None]
        index = torch.arange(size, device=sample.device)[None, :, None]
        stratum = (index * stride + offset).remainder_(size)
        unit = (stratum + self.random.uniform(sample, draws - 2, size, n)).div_(size)
        members = self._from_unit(unit, self.box.rows(sample))
        return {
            "members": members,
            "fitness": torch.full((count, size), torch.inf, device=sample.device),
            "trial": members,
            "generation": torch.zeros_like(sample),
        }

    def ask(self, state: State) -> torch.Tensor:
        """The first generation itself, then one trial per member."""
        newborn = state["generation"] == 0
        if bool(newborn.all()):
            return state["trial"]
        trial = self._trials(state)
        state["trial"] = torch.where(newborn[:, None, None], state["trial"], trial) if bool(newborn.any()) else trial
        return state["trial"]

    def tell(self, state: State, fitness: torch.Tensor) -> None:
        """A trial that is at least as good takes its parent's place."""
        better = fitness <= state["fitness"]
        state["members"] = torch.where(better[:, :, None], state["trial"], state["members"])
        state["fitness"] = torch.where(better, fitness, state["fitness"])
        state["generation"] = state["generation"] + 1

    def _trials(self, state: State) -> torch.Tensor:
        sample, members, size = state["sample"], state["members"], self.population
        box = self.box.rows(sample)
        draws = state["restart"] * (1 << 32) + 8 * state["generation"]
        best = members[torch.arange(len(sample), device=sample.device), state["fitness"].argmin(1)][:, None]
        first, second = self._pair(sample, draws)
        low, high = self.dither
        factor = low + (high - low) * self.random.uniform(sample, draws + 1, 1)[:, :, None]
        rows = torch.arange(len(sample), device=sample.device)[:, None]
        trial = members[rows, first].sub_(members[rows, second]).mul_(factor).add_(best)
        if self.recombination < 1:
            cross = self.random.uniform(sample, draws + 2, size, self.dimension) < self.recombination
            forced = self.random.integers(sample, draws + 3, self.dimension, size, 1)
            trial = torch.where(cross.scatter_(2, forced, True), trial, members)
        if self.clipped is not None:
            nearest = torch.maximum(torch.minimum(trial, box.upper[:, None]), box.lower[:, None])
            trial = torch.where(self.clipped, nearest, trial)
        outside = (trial < box.lower[:, None]) | (trial > box.upper[:, None])
        redrawn = self._from_unit(self.random.uniform(sample, draws + 4, size, self.dimension), box)
        return torch.where(outside, redrawn, trial)

    def _pair(self, sample: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two distinct members per parent, neither of them the parent: `(B, P)` each."""
        size = self.population
        parent = torch.arange(size, device=sample.device)[None]
        # Uniform over the P - 1 others, then over the P - 2 others: skip the taken places in increasing order.
        first = self.random.integers(sample, draws + 5, size - 1, size)
        first = first + (first >= parent)
        second = self.random.integers(sample, draws + 6, size - 2, size)
        lower, upper = torch.minimum(parent, first), torch.maximum(parent, first)
        second = second + (second >= lower)
        return first, second + (second >= upper)

    @staticmethod
    def _from_unit(unit: torch.Tensor, box: Box) -> torch.Tensor:
        return unit.mul_((box.upper - box.lower)[:, None]).add_(box.lower[:, None])


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
