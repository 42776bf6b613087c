"""Random search on many samples at once: propose one candidate per search, keep it if its loss is smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from charpy.interfaces.attack import Task
from charpy.search.stream import Begin, State, stream

Propose = Callable[[State], State]
"""New values for some entries of the state; `state["step"]` `(B,)` counts the rows that each search has asked."""

Render = Callable[[State], torch.Tensor]
"""The candidates `(B, C, H, W)` that a state stands for."""


def random_search(task: Task, begin: Begin, propose: Propose, render: Render, *, loss: str, runs: int) -> None:
    """Search every sample until the oracle is done with it; each round asks one row of every search.

    The first row of a search is its start. With `runs` > 1 the budget is shared between that many searches of a sample,
    one after another. A proposal is taken where its loss is smaller.
    """
    horizon = steps_of(task, runs)

    def start(sample: torch.Tensor, run: torch.Tensor) -> State:
        state = begin(sample, run)
        worst = torch.full(sample.shape, torch.inf, device=sample.device)
        return {**state, "step": torch.zeros_like(sample), "loss": worst}

    def advance(state: State) -> torch.Tensor | None:
        fresh = state["step"] == 0
        new = propose(state)
        if bool(fresh.any()):
            new = {key: torch.where(_beside(fresh, value), state[key], value) for key, value in new.items()}
        value = task.oracle.fitness(render({**state, **new}), state["sample"], loss)
        better = value < state["loss"]
        for key, entry in new.items():
            state[key] = torch.where(_beside(better, entry), entry, state[key])
        state["loss"] = torch.where(better, value, state["loss"])
        state["step"] = state["step"] + 1
        return None if runs == 1 else (state["step"] >= horizon) & (state["run"] < runs - 1)

    stream(
        start,
        advance,
        lambda sample: task.oracle.active[sample],
        torch.arange(len(task.images), device=task.images.device),
        width=max(1, task.oracle.batch),
        runs=runs,
    )


def steps_of(task: Task, runs: int) -> int:
    """Rows that each of `runs` searches of a sample may ask."""
    return max(1, task.threat.queries // runs)


def stepwise(step: torch.Tensor, steps: int, ends: Sequence[int], values: Sequence[float]) -> torch.Tensor:
    """`(B,)` piecewise constant: `values[i]` up to and including `ends[i]`, of 10,000 steps rescaled to `steps`."""
    scaled = step * 10_000 // steps
    place = torch.bucketize(scaled, torch.tensor(ends, device=step.device))
    return torch.tensor(values, dtype=torch.float64, device=step.device)[place]


def draws_of(state: State) -> torch.Tensor:
    """int64 `(B,)`: a number of its own for every step of every run, to draw random numbers by."""
    return state["run"] * (1 << 32) + state["step"]


def _beside(mask: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return mask.view(-1, *[1] * (value.ndim - 1))
