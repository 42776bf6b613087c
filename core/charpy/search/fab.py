"""The fast adaptive boundary attack (Croce & Hein 2020a), whatever boundary it is told to look at."""

from __future__ import annotations

from collections.abc import Callable

import torch

from charpy.geometry import norm_of, random_start, steepest
from charpy.interfaces.attack import Task
from charpy.interfaces.component import Params, param
from charpy.search.boundary import Plane
from charpy.search.hyperplane import onto_hyperplane
from charpy.search.stream import State, stream
from charpy.search.witnesses import Witnesses
from charpy.threat import Grid

PAPER = "Croce & Hein 2020a"

AWAY = 1e-4
"""Image values by which a step from a point that lies exactly on the boundary passes it; on the 8-bit grid one step."""

Boundary = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Plane]
"""`(points (B, C, H, W), sample (B,), direction (B,)) -> Plane`; `direction` counts a sample's boundaries from 0."""


class FabParams(Params):
    """Parameters of FAB."""

    steps: int = param(100, ge=1, le=10_000, description="iterations of a run", unit="iterations", source=PAPER)
    restarts: int = param(
        1, ge=1, le=100, description="runs; all but the first begin at a random point", unit="runs", source=PAPER
    )
    alpha_max: float = param(
        0.1, ge=0, le=1, description="largest weight of the original's own projection in a step", source=PAPER
    )
    eta: float = param(1.05, ge=1, le=2, description="extrapolation beyond the plane", source=PAPER)
    beta: float = param(
        0.9, gt=0, le=1, description="share of the distance kept by the step back from a witness", source=PAPER
    )
    final_steps: int = param(
        3, ge=0, le=30, description="trials between the original and the best witness at the end", source=PAPER
    )


def fab(task: Task, params: FabParams, boundary: Boundary, directions: int, cost: int) -> None:
    """Look for the nearest witness of every sample.

    One iteration (algorithm 1): linearise the boundary at x; project x and the original x0 onto that plane inside the
    box (delta, delta0); with a = min(|delta| / (|delta| + |delta0|), alpha_max) go to
    `(1 - a)(x + eta delta) + a (x0 + eta delta0)`; if that is a witness, step back to x0 + beta (x - x0).

    Args:
        task: what to attack.
        params: as published.
        boundary: the plane to go to.
        directions: how many boundaries of each sample are tried one after the other, in each restart.
        cost: queries that `boundary` spends on a point; the step's check spends one more.
    """
    search = _Search(task, params, boundary, directions, cost)
    stream(
        search.begin,
        search.advance,
        lambda sample: task.oracle.active[sample],
        torch.arange(len(task.labels), device=task.labels.device),
        width=max(1, task.oracle.gradient_batch),
        runs=params.restarts * directions,
    )
    search.witnesses.tighten(params.final_steps)


class _Search:
    def __init__(self, task: Task, params: FabParams, boundary: Boundary, directions: int, cost: int) -> None:
        self.task, self.params, self.boundary, self.directions = task, params, boundary, directions
        self.needed = cost + 1 + params.final_steps
        self.witnesses = Witnesses(task)
        self.random = task.random.fork("fab")

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """The original; in a restart, a point at random within half the distance of the best witness."""
        images = self.task.images[sample]
        reach = self.witnesses.distance[sample].clamp_max(self.task.threat.radius) / 2
        moved = random_start(self.task.threat.norm, images, reach, self.random, sample, run)
        first = (run < self.directions)[:, None, None, None]
        return {"x": torch.where(first, images, moved), "step": torch.zeros_like(run)}

    def advance(self, state: State) -> torch.Tensor:
        """One iteration of every run; which are finished."""
        x, sample, run = state["x"], state["sample"], state["run"]
        plane = self.boundary(x, sample, run % self.directions)
        clean = (state["step"] == 0) & (run == 0)
        self.witnesses.begin(sample[clean], plane.margin[clean])
        self.witnesses.meet(sample, x, plane.margin)
        original = self.task.images[sample]
        x = self._step(x, original, plane)
        back = self.witnesses.look(x, sample) < 0
        state["x"] = torch.where(back[:, None, None, None], original + self.params.beta * (x - original), x)
        state["step"] += 1
        short = self.task.oracle.remaining[sample] < self.needed
        return (state["step"] >= self.params.steps) | short | ~plane.gap.isfinite()

    def _step(self, x: torch.Tensor, original: torch.Tensor, plane: Plane) -> torch.Tensor:
        norm, p = self.task.threat.norm, self.params
        gap = plane.gap.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        on_it = plane.gap == 0
        if bool(on_it.any()):
            gap = torch.where(on_it, self._least(plane.normal), gap)
        there = gap + (plane.normal * (original - x)).flatten(1).sum(1)
        both = onto_hyperplane(
            norm, torch.cat([x, original]), plane.normal.repeat(2, 1, 1, 1), -torch.cat([gap, there])
        )
        here, anew = both.chunk(2)
        size, size_anew = norm_of(norm, here).clamp_min(1e-8), norm_of(norm, anew).clamp_min(1e-8)
        a = (size / (size + size_anew)).clamp_max(p.alpha_max)[:, None, None, None]
        return ((1 - a) * (x + p.eta * here) + a * (original + p.eta * anew)).clamp_(0, 1)

    def _least(self, normal: torch.Tensor) -> torch.Tensor:
        """`(B,)` gap of a plane to which the shortest way moves one value by `AWAY`, or one step of the grid."""
        away = 1 / 255 if self.task.threat.grid is Grid.EIGHT_BIT else AWAY
        direction = steepest(self.task.threat.norm, normal)
        return away * (normal * direction).flatten(1).sum(1) / direction.flatten(1).abs().amax(1).clamp_min(1e-30)
