"""RayS (Chen & Gu 2020): a hierarchical search for the sign vector along which the boundary is nearest in Linf."""

from __future__ import annotations

import math

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary_search import adversarial, starting_points
from charpy.search.stream import State, stream
from charpy.threat import Access, Grid, Norm

PAPER = "Chen & Gu 2020, algorithm 3"

COARSE = (4, 4)
"""Blocks of a random direction."""

PART, LEAST_PARTS = 48, 16
"""Values that the smallest change of a radius moves by a step, and parts of a step at least. A flip whose gain is below
that change is lost; a finer one costs bisections."""


class Rays(Attack):
    """Flips ever smaller blocks of a sign vector, and keeps a flip that brings the boundary nearer (Linf, labels only).

    A direction is a vector of signs s; its radius r is the least with clip(x + r s) adversarial. At level l the vector,
    in the order C, H, W, is cut into 2^l blocks (at least one value each); each is flipped in turn. A flip costs one
    row where it does not help: x + (r - tick) s' is asked first, and only if that is adversarial is the radius
    bisected.

    Differs from the paper: the search is exact to one tick: off the grid `tolerance / sqrt(D)`. On the 8-bit grid a
    radius is a whole number of steps, and most flips bring the boundary nearer by less than one: there a radius of
    m / n steps (n = `dither`) moves each value by floor((m + d) / n) steps, with d in 0..n-1 drawn once per value, so
    that progress below one step is seen and kept. The first direction points to a starting point found by
    `starting_points` instead of white. The bisection begins with small steps from above. When every value has been
    flipped alone, the search goes back to blocks at `restart_level`, cut at other places; where a whole such pass does
    not help, it begins again from a random direction of coarse blocks, `restarts` times.
    """

    norms = frozenset({Norm.LINF})
    access = Access.LABELS
    family = Family.TARGET_OPTIMALITY
    source = "Chen & Gu 2020, RayS: a ray searching method for hard-label adversarial attack (arXiv:2006.12792)"

    class Params(BaseParams):
        """Parameters of RayS."""

        tolerance: float = param(
            1e-3, gt=0, le=1, description="accuracy of a radius off the grid, in L2", unit="image values", source=PAPER
        )
        dither: int | None = param(
            None,
            ge=1,
            le=65_536,
            description="parts of a grid step that a radius is told apart by; if not given, so many that a part moves "
            "48 values, at least 16",
            source="ours",
        )
        tries: int = param(20, ge=1, description="starting points tried per sample", unit="rows", source="ours")
        restart_level: int = param(
            4, ge=0, description="level that follows the finest one", unit="halvings", source="ours"
        )
        restarts: int = param(10, ge=0, description="searches from random directions after the first", source="ours")

    def run(self, task: Task) -> None:
        """Search every sample until its budget is spent or the least radius is reached."""
        search = _Search(task, self.params)
        every = torch.arange(len(task.images), device=task.images.device)
        width, runs = max(1, task.oracle.batch), 1 + self.params.restarts
        stream(search.begin, search.advance, lambda i: task.oracle.active[i], every, width=width, runs=runs)


class _Search:
    """Radii are whole ticks; on the grid `dither` ticks make a step of 1/255."""

    def __init__(self, task: Task, params: Rays.Params) -> None:
        self.task, self.random = task, task.random.fork("rays")
        self.shape = task.images.shape[1:]
        self.size = task.images.shape[1:].numel()
        self.on_grid = task.threat.grid is Grid.EIGHT_BIT
        self.dither = params.dither or max(LEAST_PARTS, self.size // PART)
        self.ticks = 255 * self.dither if self.on_grid else math.ceil(math.sqrt(self.size) / params.tolerance)
        self.least = self.dither if self.on_grid else 1
        self.finest = max(0, math.ceil(math.log2(self.size)))
        self.restart = min(params.restart_level, self.finest)
        self.place = torch.arange(self.size, device=task.images.device)
        self.starts = starting_points(task, params.tries)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """A direction whose radius is not known yet: to the starting point; in later runs, random coarse blocks."""
        towards = self.starts.images[sample] >= self.task.images[sample]
        coarse = self.random.fork("directions").integers(sample, run, 2, self.shape[0], *COARSE).float()
        blocks = torch.nn.functional.interpolate(coarse, size=self.shape[1:], mode="nearest") > 0
        sign = torch.where(torch.where((run == 0)[:, None, None, None], towards, blocks), 1.0, -1.0)
        zero = torch.zeros_like(sample)
        return {
            "sign": sign,
            "radius": torch.full_like(sample, self.ticks + 1),  # of the direction; larger than any: none found
            "level": zero,
            "block": zero - 1,  # block -1 of level 0: the direction as it is
            "turn": zero,
            "helped": torch.zeros_like(sample, dtype=torch.bool),
            "bisecting": torch.zeros_like(sample, dtype=torch.bool),
            "low": zero,
            "high": zero,
            "step": zero,
            "pattern": self.random.integers(sample, 0, self.dither, *self.shape),
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask one row per search; True where the radius cannot get smaller, or a whole pass did not help."""
        sign = torch.where(self._block(state), -state["sign"], state["sign"])
        bisecting, low, high, step = state["bisecting"], state["low"], state["high"], state["step"]
        middle = torch.maximum((low + high) // 2, high - step)
        asked = torch.where(bisecting, middle, state["radius"] - 1)
        hit = adversarial(self.task, self._image(state, sign, asked), state["sample"])
        first = torch.where(state["radius"] > self.ticks, self.ticks, asked // 32)
        state["step"] = torch.where(bisecting, torch.where(hit, step * 2, step), first).clamp_min(1)
        state["high"] = torch.where(hit, asked, high)
        state["low"] = torch.where(bisecting, torch.where(hit, low, asked), 0)
        state["bisecting"] = (bisecting | hit) & (state["high"] - state["low"] > 1)
        settled = ~state["bisecting"]
        better = settled & (bisecting | hit)
        state["sign"] = torch.where(better[:, None, None, None], sign, state["sign"])
        state["radius"] = torch.where(better, state["high"], state["radius"])
        state["helped"] = state["helped"] | better
        return self._next_block(state, settled) | (state["radius"] <= self.least)

    def _image(self, state: State, sign: torch.Tensor, ticks: torch.Tensor) -> torch.Tensor:
        size = ticks[:, None, None, None]
        if self.on_grid:
            moved = (size + state["pattern"]).div(self.dither, rounding_mode="floor") / 255
        else:
            moved = size / self.ticks
        return (self.task.images[state["sample"]] + sign * moved).clamp_(0, 1)

    def _block(self, state: State) -> torch.Tensor:
        """bool `(B, C, H, W)`: the values that each search flips now; later turns cut the vector elsewhere."""
        width = self._width(state["level"])
        begin = (state["block"] * width)[:, None]
        place = (self.place + state["turn"][:, None] * (self.size // 3 + 1)) % self.size
        inside = (place >= begin) & (place < begin + width[:, None])
        return inside.view(-1, *self.shape)

    def _width(self, level: torch.Tensor) -> torch.Tensor:
        blocks = 2**level
        return (self.size + blocks - 1) // blocks

    def _next_block(self, state: State, settled: torch.Tensor) -> torch.Tensor:
        """Move on where `settled`; True where that ends a pass that did not help."""
        block = state["block"] + settled
        full = (block >= 2 ** state["level"]) | (block * self._width(state["level"]) >= self.size)
        level = state["level"] + full
        again = level > self.finest
        state["block"] = torch.where(full, 0, block)
        state["level"] = torch.where(again, self.restart, level)
        state["turn"] = state["turn"] + again
        in_vain = again & ~state["helped"]
        state["helped"] = state["helped"] & ~again
        return in_vain
