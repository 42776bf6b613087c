"""CMA-ES for many problems at once (Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772).

Rank-one and rank-mu update with negative weights (active CMA), cumulative step-size adaptation. Full covariance up to
`FULL_COVARIANCE_LIMIT` dimensions, the separable variant (Ros & Hansen 2008) beyond. Constants are the tutorial's; for
the separable variant and the negative weights they are those of pycma, which the tests hold this against.

Differs from the tutorial: a sample is drawn through the Cholesky factor A of C instead of its symmetric root, and the
evolution path of the step size therefore accumulates A^-1 y = z (Krause, Arbones & Igel 2016): a batched Cholesky
factor costs a tenth of a batched eigendecomposition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from charpy.random import Random
from charpy.search.box import Box
from charpy.search.population import Optimiser
from charpy.search.stream import State

LARGEST_STEP = 1 / 3
"""No coordinate's standard deviation exceeds this share of its box (pycma's `maxstd_boundrange`). It matters: with one
step for places of width 8 and colours of width 255, the places would be drawn at random for most of the search."""

FULL_COVARIANCE_LIMIT = 50
"""Largest dimension with a full covariance matrix: ten pixels of three channels. Cost per evaluation grows with D^2."""


def default_population(dimension: int) -> int:
    """4 + floor(3 ln D), the tutorial's (eq. 48)."""
    return 4 + int(3 * math.log(dimension))


@dataclass(frozen=True)
class Constants:
    """Strategy constants of one dimension and population (tutorial, Table 1)."""

    weights: torch.Tensor
    total: float
    mueff: float
    cs: float
    damps: float
    cc: float
    c1: float
    cmu: float
    chi: float

    @classmethod
    def of(cls, dimension: int, population: int, *, separable: bool, device: torch.device) -> Constants:
        """The defaults; `weights` `(P,)` are sorted best first, positive ones sum to 1, negative ones are scaled."""
        n = dimension
        rank = torch.arange(1, population + 1, dtype=torch.float64, device="cpu")
        raw = math.log((population + 1) / 2) - rank.log()
        positive, negative = raw.clamp_min(0), raw.clamp_max(0)
        mueff = float(positive.sum() ** 2 / positive.square().sum())
        mueff_minus = float(negative.sum() ** 2 / negative.square().sum()) if negative.any() else 0.0
        if separable:
            cc = (1 + 1 / n + mueff / n) / (math.sqrt(n) + 1 / n + 2 * mueff / n)
            c1 = 1 / (n + 2 * math.sqrt(n) + mueff / n)
            cmu = min(1 - c1, (0.25 + mueff + 1 / mueff - 2) / (n + 4 * math.sqrt(n) + mueff / 2))
        else:
            cc = (4 + mueff / n) / (n + 4 + 2 * mueff / n)
            c1 = min(1, population / 6) * 2 / ((n + 1.3) ** 2 + mueff)
            cmu = min(1 - c1, 2 * (0.25 + mueff + 1 / mueff - 2) / ((n + 2) ** 2 + mueff))
        shrink = min(1 + c1 / cmu, 1 + 2 * mueff_minus / (mueff + 2), (1 - c1 - cmu) / (n * cmu))
        weights = positive / positive.sum()
        if negative.any():
            weights = weights + negative / negative.sum().abs() * shrink
        cs = (mueff + 2) / (n + mueff + 3)
        damps = 1 + 2 * max(0.0, math.sqrt((mueff - 1) / (n + 1)) - 1) + cs
        chi = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        return cls(weights.to(torch.float32).to(device), float(weights.sum()), mueff, cs, damps, cc, c1, cmu, chi)


class CMAES(Optimiser):
    """Batched CMA-ES inside a box.

    Args:
        box: bounds of the N samples, `(N, D)` or `(1, D)`.
        start_point: `(N, D)` first means, points of the box.
        sigma0: first step size, in gene units.
        random: the samples' streams.
        population: P; the tutorial's default when None.
        separable: force the diagonal (True) or full (False) covariance; by dimension when None.
        restart_at_random: a restarted search begins at a random point of the box instead of `start_point`.
        resolution: half-width of a grid cell; a search whose every step is smaller has converged. 0 turns that off.
    """

    def __init__(
        self,
        box: Box,
        start_point: torch.Tensor,
        sigma0: float,
        random: Random,
        *,
        population: int | None = None,
        separable: bool | None = None,
        restart_at_random: bool = True,
        resolution: float = 0.0,
    ) -> None:
        self.box, self.start_point, self.sigma0, self.random = box, start_point, sigma0, random
        self.dimension = start_point.shape[1]
        self.population = population or default_population(self.dimension)
        self.separable = self.dimension > FULL_COVARIANCE_LIMIT if separable is None else separable
        self.restart_at_random, self.resolution = restart_at_random, resolution
        self.constants = Constants.of(
            self.dimension, self.population, separable=self.separable, device=start_point.device
        )

    def start(self, sample: torch.Tensor, restart: torch.Tensor) -> State:
        """Unit covariance and `sigma0` around the start point; later rounds begin elsewhere in the box."""
        count, n = len(sample), self.dimension
        box = self.box.rows(sample)
        mean = self.start_point[sample]
        if self.restart_at_random:
            elsewhere = box.lower + (box.upper - box.lower) * self.random.uniform(sample, -1 - restart, n)
            mean = torch.where((restart > 0)[:, None], elsewhere, mean)
        zeros = mean.new_zeros(count, n)
        unit = (
            mean.new_ones(count, n)
            if self.separable
            else torch.eye(n, device=mean.device).to(mean).expand(count, n, n).clone()
        )
        state = {
            "mean": box.unfold(mean),
            "sigma": mean.new_full((count,), self.sigma0),
            "scale": torch.ones_like(zeros),
            "covariance": unit,
            "factor": unit.clone(),
            "path_c": zeros,
            "path_s": zeros.clone(),
            "steps": torch.zeros_like(sample),
            "z": mean.new_zeros(count, self.population, n),
            "y": mean.new_zeros(count, self.population, n),
        }
        self._limit(state, box)
        return state

    def ask(self, state: State) -> torch.Tensor:
        """P normal points around each mean, folded into the box."""
        draws = state["restart"] * (1 << 32) + state["steps"]
        state["z"] = self.random.normal(state["sample"], draws, self.population, self.dimension)
        state["y"] = self._stretch(state["factor"], state["z"])
        step = state["sigma"][:, None] * state["scale"]
        genes = torch.addcmul(state["mean"][:, None], state["y"], step[:, None])
        return self.box.rows(state["sample"]).fold(genes)

    def tell(self, state: State, fitness: torch.Tensor) -> None:
        """The updates of the tutorial, eq. 42 to 47, with step i = A z_i."""
        k = self.constants
        order = fitness.argsort(dim=1, stable=True)
        weights = torch.empty_like(fitness).scatter_(1, order, k.weights.expand_as(fitness))
        z, y, positive = state["z"], state["y"], weights.clamp_min(0)[:, :, None]
        z_mean, y_mean = (positive * z).sum(1), (positive * y).sum(1)
        state["mean"] = state["mean"] + state["sigma"][:, None] * state["scale"] * y_mean
        state["path_s"] = (1 - k.cs) * state["path_s"] + math.sqrt(k.cs * (2 - k.cs) * k.mueff) * z_mean
        length = state["path_s"].square().sum(1).sqrt()
        state["steps"] = state["steps"] + 1
        warm = 1 - (1 - k.cs) ** (2 * state["steps"].to(torch.float64))
        steady = (length / warm.sqrt() < (1.4 + 2 / (self.dimension + 1)) * k.chi).to(y.dtype)[:, None]
        state["path_c"] = (1 - k.cc) * state["path_c"] + steady * math.sqrt(k.cc * (2 - k.cc) * k.mueff) * y_mean
        self._adapt(state, weights, steady)
        state["sigma"] = state["sigma"] * ((length / k.chi - 1) * (k.cs / k.damps)).clamp(-1, 1).exp()
        self._limit(state, self.box.rows(state["sample"]))

    def converged(self, state: State) -> torch.Tensor:
        """Searches whose largest standard deviation no longer leaves a grid cell, or whose numbers broke down."""
        spread = self._deviations(state).amax(1)
        return (spread < self.resolution / 3) | ~spread.isfinite()

    def _deviations(self, state: State) -> torch.Tensor:
        """`(B, D)` standard deviation of each gene."""
        variance = state["covariance"] if self.separable else state["covariance"].diagonal(dim1=1, dim2=2)
        return state["sigma"][:, None] * state["scale"] * variance.clamp_min(0).sqrt()

    def _limit(self, state: State, box: Box) -> None:
        """Scale down the genes whose deviation is too large for their box."""
        shrink = (LARGEST_STEP * (box.upper - box.lower) / self._deviations(state)).clamp_max(1)
        state["scale"] = state["scale"] * shrink
        state["path_c"] = state["path_c"] * shrink

    def _stretch(self, factor: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """`A z` of every row. Written as product and sum: the bits of a batched `matmul` depend on the batch."""
        if self.separable:
            return z * factor[:, None]
        return (z[:, :, None, :] * factor[:, None]).sum(3)

    def _adapt(self, state: State, weights: torch.Tensor, steady: torch.Tensor) -> None:
        """Covariance update (eq. 47); a bad step's weight is scaled by n / |z|^2, so that C stays positive."""
        k, path, y = self.constants, state["path_c"], state["y"]
        scale = self.dimension / state["z"].square().sum(2).clamp_min(1e-12)
        weights = torch.where(weights < 0, weights * scale, weights)
        fading = (1 - steady) * k.cc * (2 - k.cc) * k.c1
        decay = 1 - k.c1 - k.cmu * k.total + fading
        if self.separable:
            rank_mu = (weights[:, :, None] * y.square()).sum(1)
            covariance = decay * state["covariance"] + k.c1 * path.square() + k.cmu * rank_mu
            state["covariance"] = covariance.clamp_min(1e-20)
            state["factor"] = state["covariance"].sqrt()
            return
        covariance = decay[:, :, None] * state["covariance"] + k.c1 * path[:, :, None] * path[:, None, :]
        weighted = k.cmu * weights[:, :, None] * y
        for i in range(self.population):  # P outer products, each for all searches
            covariance.addcmul_(weighted[:, i, :, None], y[:, i, None, :])
        covariance = (covariance + covariance.transpose(1, 2)) / 2
        factor, failed = torch.linalg.cholesky_ex(covariance)
        broken = (failed != 0)[:, None, None]
        unit = torch.eye(self.dimension, device=covariance.device).to(covariance)
        state["covariance"] = torch.where(broken, unit, covariance)
        state["factor"] = torch.where(broken, unit, factor)
