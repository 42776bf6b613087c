"""Projected gradient descent over many samples at once: what FGM, BIM, PGD, PGD2 and PGD0 share."""

from __future__ import annotations

from collections.abc import Callable

import torch

from charpy.interfaces.attack import Task
from charpy.search.stream import State, each_sample

Start = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""`(sample (B,), run (B,)) -> (B, C, H, W)`: the first image of each descent."""

Move = Callable[[State, torch.Tensor], torch.Tensor]
"""`(state, gradient) -> (B, C, H, W)`: the next images, inside the ball; `state` holds `images`, `sample`, `run`, `x`
and `iteration`."""


def descend(task: Task, start: Start, move: Move, *, steps: int, loss: str = "log_odds", restarts: int = 1) -> None:
    """`steps` moves against the gradient of `loss` from each of `restarts` starts, for every sample that still stands.

    A descent costs a gradient row a step, and one forward row for its last image.
    """
    oracle = task.oracle

    def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
        return {
            "images": task.images[sample],
            "x": start(sample, run),
            "iteration": torch.zeros_like(sample),
        }

    def advance(state: State) -> torch.Tensor:
        answer = oracle.loss_and_gradient(state["x"], state["sample"], loss)
        state["x"] = move(state, answer.gradient)
        state["iteration"] = state["iteration"] + 1
        finished = state["iteration"] >= steps
        rows = finished.nonzero()[:, 0]
        if len(rows):
            oracle.scores(state["x"][rows], state["sample"][rows])
        return finished

    each_sample(task, begin, advance, runs=restarts)


def scale_free(classes: int, loss: str) -> str:
    """`loss`, or the plain margin where it is the DLR of two classes: that one is constant, z_1 - z_2 over itself."""
    return "margin" if loss == "dlr" and classes < 3 else loss
