"""Continuous batching: many samples' searches in one batch, whose places are filled again as samples finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from charpy.interfaces.attack import Task

State = dict[str, torch.Tensor]
"""The state of B searches: tensors that share the leading dimension B; `sample` `(B,)` says whose each one is."""

Begin = Callable[[torch.Tensor, torch.Tensor], State]
"""`(sample (B,), run (B,)) -> state`: fresh searches; `run` counts the runs of a sample from 0."""

Advance = Callable[[State], torch.Tensor | None]
"""One step of every search, in place (`state["x"] = ...`); may return bool `(B,)`, the searches that are finished."""

Active = Callable[[torch.Tensor], torch.Tensor]
"""`sample (B,) -> bool (B,)`, whether a sample is still worth a query."""


def stream(
    begin: Begin,
    advance: Advance,
    active: Active,
    samples: torch.Tensor,
    *,
    width: int,
    runs: int = 1,
    abreast: int = 1,
) -> None:
    """Search every sample, about `width` searches at a time, until each is finished or not active any more.

    When a sample is done its place is taken by the next one waiting, so batches stay full to the end. A sample is
    searched `runs` times (restarts, target classes), `abreast` of them side by side; the next begin when those have
    finished. Which searches of a sample run side by side, and so what it spends, does not depend on `width`.
    """
    waiting = samples[active(samples)]
    turn = torch.zeros(int(samples.max()) + 1 if len(samples) else 0, dtype=torch.int64, device=samples.device)
    state: State = {}
    while len(waiting) or (state and len(state["sample"])):
        free = (width - (len(state["sample"]) if state else 0)) // abreast
        if len(waiting) and (free > 0 or not state or not len(state["sample"])):
            chosen, waiting = waiting[: max(1, free)], waiting[max(1, free) :]
            sample, run = _side_by_side(chosen, turn[chosen], runs, abreast)
            state = join(state, {**begin(sample, run), "sample": sample, "run": run})
        finished = advance(state)
        standing = active(state["sample"])
        keep = standing if finished is None else standing & ~finished
        if bool(keep.all()):
            continue
        left = torch.zeros_like(turn).index_put_((state["sample"],), torch.ones_like(state["sample"]), accumulate=True)
        left.index_put_((state["sample"][~keep],), -torch.ones_like(state["sample"][~keep]), accumulate=True)
        ended = torch.zeros_like(turn).index_fill_(0, state["sample"][~keep & standing], 1)
        ended = (ended.bool() & (left == 0)).nonzero()[:, 0]
        turn[ended] += abreast
        waiting = torch.cat([ended[turn[ended] < runs], waiting])
        state = select(state, keep)


def each_sample(task: Task, begin: Begin, advance: Advance, *, runs: int = 1, abreast: int = 1) -> None:
    """`stream` over the samples of a task that its oracle still answers, as wide as a batch of gradients."""
    stream(
        begin,
        advance,
        lambda sample: task.oracle.active[sample],
        torch.arange(len(task.images), device=task.images.device),
        width=max(1, task.oracle.gradient_batch),
        runs=runs,
        abreast=abreast,
    )


def select(state: State, keep: torch.Tensor) -> State:
    """The searches where `keep` `(B,)` is True."""
    return {key: value[keep] for key, value in state.items()}


def join(first: State, second: State) -> State:
    """The searches of both."""
    if not first or not len(first["sample"]):
        return second
    return {key: torch.cat([first[key], second[key]]) for key in first}


def _side_by_side(
    sample: torch.Tensor, turn: torch.Tensor, runs: int, abreast: int
) -> tuple[torch.Tensor, torch.Tensor]:
    run = turn[:, None] + torch.arange(abreast, device=sample.device)
    there = run < runs
    return sample[:, None].expand_as(run)[there], run[there]
