"""Descent along gradients that are estimated from scores, for many samples at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from charpy.geometry import project
from charpy.interfaces.attack import Task
from charpy.search.stream import Begin, State, stream
from charpy.threat import Grid

Directions = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""`(sample (B,), draws (B,), pairs) -> (B, pairs, C, H, W)`: random directions, of mean 0 and variance 1 per value."""

Step = Callable[[State, torch.Tensor, torch.Tensor], torch.Tensor]
"""`(state, gradient (B, C, H, W), loss (B,)) -> (B, C, H, W)`: what to add to the image; it may change the state."""


def descend(
    task: Task, begin: Begin, directions: Directions, step: Step, *, pairs: int, spread: float, loss: str
) -> None:
    """Move each sample's image by `step` until the oracle is done with it.

    A round asks about the image and about `pairs` of points on both sides of it, `x + spread u` and `x - spread u`
    (antithetic sampling); the gradient is the mean of `u (f(x + spread u) - f(x - spread u)) / (2 spread)`. After the
    step the image is brought back into the ball. All probe points of a sample travel in one batch. When the budget
    leaves no room for another round, the last one has fewer pairs, and its step is still asked about.

    `begin` gives the optimiser's own state. On the 8-bit grid the oracle rounds the probe points: see `seen`.
    """
    oracle, images = task.oracle, task.images

    def start(sample: torch.Tensor, run: torch.Tensor) -> State:
        return {**begin(sample, run), "image": images[sample], "round": torch.zeros_like(sample)}

    def advance(state: State) -> None:
        sample = state["sample"]
        u = directions(sample, state["round"], pairs)
        here = state["image"][:, None]
        points = torch.cat([here, here + spread * u, here - spread * u], 1).clamp_(0, 1)
        asked = _affordable(oracle.remaining[sample], pairs)
        values = torch.full(asked.shape, torch.inf, device=asked.device)
        values[asked] = oracle.fitness(points[asked], sample[:, None].expand_as(asked)[asked], loss)
        slope = (values[:, 1 : pairs + 1] - values[:, pairs + 1 :]) / (2 * spread)
        known = slope.isfinite()
        slope = torch.where(known, slope, 0.0) / known.sum(1, keepdim=True).clamp_min(1)
        gradient = (slope[:, :, None] * u.flatten(2)).sum(1).view_as(state["image"])
        moved = state["image"] + step(state, gradient, values[:, 0])
        state["image"] = project(task.threat.norm, images[sample], moved, task.threat.radius)
        state["round"] = state["round"] + 1

    stream(
        start,
        advance,
        lambda sample: oracle.active[sample],
        torch.arange(len(images), device=images.device),
        width=-(-max(1, oracle.batch) // (1 + 2 * pairs)),
    )


def seen(task: Task, spread: float, least: float) -> float:
    """`spread`, on the 8-bit grid at least `least` grid steps: smaller ones are rounded away."""
    return max(spread, least / 255) if task.threat.grid is Grid.EIGHT_BIT else spread


def _affordable(remaining: torch.Tensor, pairs: int) -> torch.Tensor:
    """bool `(B, 1 + 2 pairs)`: which points of a round are asked about, so that one row is left for what follows."""
    number = torch.arange(pairs, device=remaining.device)
    pair = 2 * number + 4 <= remaining[:, None]
    return torch.cat([torch.ones_like(remaining, dtype=torch.bool)[:, None], pair, pair], 1)
