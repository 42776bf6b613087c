"""Adam (Kingma & Ba 2015) for many independent problems: a row's moments and step count are its own."""

from __future__ import annotations

import torch

from charpy.search.stream import State

BETAS = (0.9, 0.999)


def moments(like: torch.Tensor) -> State:
    """What a row begins with, for variables like `like` `(B, ...)`."""
    return {
        "mean": torch.zeros_like(like),
        "square": torch.zeros_like(like),
        "moments": torch.zeros(len(like), device=like.device),
    }


def direction(state: State, gradient: torch.Tensor) -> torch.Tensor:
    """The direction to subtract, of about unit size in every value; takes `gradient` `(B, ...)` into the state."""
    state["moments"] = state["moments"] + 1
    state["mean"] = BETAS[0] * state["mean"] + (1 - BETAS[0]) * gradient
    state["square"] = BETAS[1] * state["square"] + (1 - BETAS[1]) * gradient.square()
    count = state["moments"].view(-1, *[1] * (gradient.ndim - 1))
    first, second = ((1 - beta ** count.to(torch.float64)).to(gradient.dtype) for beta in BETAS)
    mean, square = state["mean"] / first, state["square"] / second
    return mean / (square.sqrt() + 1e-8)
