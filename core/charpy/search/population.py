"""Population searches in lock-step: every sample's population travels in one batch, and full batches to the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from charpy.search.stream import Active, State, stream

Evaluate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""`(genes (B, P, D), sample (B,)) -> fitness (B, P)`, smaller is better; a refused evaluation is +inf."""


class Optimiser(ABC):
    """An ask-and-tell optimiser of many independent problems at once.

    Every operation treats each row of the state alone, so a search's course does not depend on its neighbours.
    """

    population: int

    @abstractmethod
    def start(self, sample: torch.Tensor, restart: torch.Tensor) -> State:
        """Fresh searches for the samples `(B,)`; `restart` `(B,)` counts them, so that each draws other numbers."""

    @abstractmethod
    def ask(self, state: State) -> torch.Tensor:
        """The next points to evaluate, `(B, P, D)`, inside the box."""

    @abstractmethod
    def tell(self, state: State, fitness: torch.Tensor) -> None:
        """Learn the fitness `(B, P)` of the points that `ask` gave; +inf and NaN are worst."""

    def converged(self, state: State) -> torch.Tensor:
        """bool `(B,)`: searches that can no longer improve and should start over."""
        return torch.zeros(len(state["sample"]), dtype=torch.bool, device=state["sample"].device)


def search(
    optimiser: Optimiser,
    evaluate: Evaluate,
    active: Active,
    samples: torch.Tensor,
    *,
    rows: int = 512,
    patience: int | None = None,
    generations: int | None = None,
) -> None:
    """Run one search per sample until `active(sample)` is False for all.

    About `rows` evaluations travel in one batch: when a sample is done its place is taken by the next one waiting
    (continuous batching). A search that converged, or whose best has not improved for `patience` generations, starts
    over with other random numbers. After `generations` generations in all, a sample is given up.
    """

    def advance(state: State) -> torch.Tensor | None:
        _generation(optimiser, evaluate, state)
        _restart(optimiser, state, patience, active)
        return None if generations is None else state["age"] >= generations

    stream(
        lambda sample, _: _fresh(optimiser, sample),
        advance,
        active,
        samples,
        width=max(1, -(-rows // optimiser.population)),
    )


def _fresh(optimiser: Optimiser, sample: torch.Tensor, restart: torch.Tensor | None = None) -> State:
    zero = torch.zeros_like(sample)
    restart = zero if restart is None else restart
    best = torch.full(sample.shape, float("inf"), device=sample.device)
    return {
        **optimiser.start(sample, restart),
        "sample": sample,
        "restart": restart,
        "age": zero,
        "stall": zero,
        "best": best,
    }


def _generation(optimiser: Optimiser, evaluate: Evaluate, state: State) -> None:
    fitness = evaluate(optimiser.ask(state), state["sample"])
    fitness = torch.where(fitness.isnan(), torch.inf, fitness)
    optimiser.tell(state, fitness)
    generation_best = fitness.amin(1)
    improved = generation_best < state["best"]
    state["best"] = torch.minimum(state["best"], generation_best)
    state["stall"] = torch.where(improved, 0, state["stall"] + 1)
    state["age"] = state["age"] + 1


def _restart(optimiser: Optimiser, state: State, patience: int | None, active: Active) -> None:
    stuck = optimiser.converged(state)
    if patience is not None:
        stuck |= state["stall"] >= patience
    stuck &= active(state["sample"])
    if not bool(stuck.any()):
        return
    again = _fresh(optimiser, state["sample"][stuck], state["restart"][stuck] + 1)
    again["age"] = state["age"][stuck]
    for key, value in again.items():
        state[key] = state[key].index_copy(0, stuck.nonzero()[:, 0], value)
