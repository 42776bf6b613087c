"""HopSkipJump (Chen, Jordan & Wainwright 2020): gradient steps along a boundary whose normal is estimated by labels."""

from __future__ import annotations

import math

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary_search import FINER, GRID_STEP, Rendering, adversarial, bisect, starting_points
from charpy.threat import Access, Norm

PAPER = "Chen et al. 2020, algorithm 2 and section 4"
ROWS = 2048
"""Most rows of a gradient estimate that exist at once; a single sample's may be more."""

LINF_NOISE = 4.0
"""Factor of `grid_noise` for Linf: there the noise must outweigh that of the dithered rounding."""

RESERVE = 24
"""Rows that an estimate leaves in the budget, for the step and the bisection that make use of it."""


class Hopskipjump(Attack):
    """Estimates the normal of the boundary from labels, steps along it and bisects back (L2, Linf, labels only).

    From a boundary point x_t at distance d_t, iteration t asks B_t = B_0 sqrt(t) rows x_t + delta u, |u|_2 = 1; the
    normal is the mean of u times (phi - mean phi), phi = 1 if adversarial, otherwise -1 (eq. 16). The step along it
    (its sign for Linf) begins at d_t / sqrt(t) and is halved until it stays adversarial; a bisection brings the result
    back to the boundary.

    u is normal (L2) or uniform (Linf); delta is d_t / D times gamma (D values per image), for t = 1 it is 0.1.

    Differs from the paper: on the 8-bit grid delta is at least `grid_noise` steps per value (Linf: four times that),
    since what is smaller is rounded away, and u is what is left of it after rounding; for Linf the rounding is dithered
    (`Rendering`), since one step of all values is a long way. A bisection ends where it would move no value by a
    quarter of a step (L2) or finds a radius to 1/16 of one (Linf). An estimate leaves the rows in the budget that its
    own step needs.
    """

    norms = frozenset({Norm.L2, Norm.LINF})
    access = Access.LABELS
    family = Family.TARGET_OPTIMALITY
    source = "Chen, Jordan & Wainwright 2020, HopSkipJumpAttack: a query-efficient decision-based attack (S&P)"

    class Params(BaseParams):
        """Parameters of HopSkipJump."""

        steps: int = param(64, ge=1, description="iterations", source="Chen et al. 2020, released code (25,000 rows)")
        initial_evaluations: int = param(
            100, ge=2, description="rows of the first gradient estimate, B_0", unit="rows", source=PAPER
        )
        max_evaluations: int = param(
            10_000, ge=2, description="rows of an estimate at most", unit="rows", source="Chen et al. 2020, code"
        )
        gamma: float = param(1.0, gt=0, description="factor of the bisection's threshold and of delta", source=PAPER)
        grid_noise: float = param(
            0.5, ge=0, description="least delta per value on the 8-bit grid", unit="1/255", source="ours"
        )
        tries: int = param(100, ge=1, description="starting points tried per sample", unit="rows", source="ART 1.20")

    def run(self, task: Task) -> None:
        """All samples in lock-step: each spends its whole budget, so that their batches do not drain."""
        walk = _Walk(task, self.params)
        starts = starting_points(task, self.params.tries)
        rows = starts.found.nonzero()[:, 0]
        current = starts.images
        if len(rows):
            current[rows] = walk.to_boundary(current[rows], rows)
        for step in range(1, self.params.steps + 1):
            rows = rows[task.oracle.active[rows]]
            if not len(rows):
                return
            moved = walk.stepped(current[rows], rows, step)
            current[rows] = walk.to_boundary(moved, rows)


class _Walk:
    def __init__(self, task: Task, params: Hopskipjump.Params) -> None:
        self.task, self.params, self.norm = task, params, task.threat.norm
        self.noise, self.size = task.random.fork("hopskipjump"), task.images.shape[1:].numel()
        self.render = Rendering(task, dither=self.norm is Norm.LINF)
        power = 1.5 if self.norm is Norm.L2 else 2.0
        self.threshold = params.gamma / self.size**power

    def to_boundary(self, outside: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Adversarial images near the boundary, `(B, C, H, W)`."""
        reach = (outside - self.task.images[rows]).flatten(1).abs().amax(1)
        tolerance = reach * self.threshold if self.norm is Norm.LINF else torch.full_like(reach, self.threshold)
        if self.render.on_grid:
            finest = GRID_STEP / FINER if self.norm is Norm.LINF else GRID_STEP / 4 / reach.clamp_min(GRID_STEP)
            tolerance = tolerance.clamp_min(finest)
        return bisect(self.task, self.norm, outside, rows, tolerance, self.render)

    def stepped(self, current: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Adversarial images one step from the boundary; where no step is, the boundary points themselves."""
        delta = current - self.task.images[rows]
        flat = delta.flatten(1)
        distance = flat.abs().amax(1) if self.norm is Norm.LINF else flat.norm(dim=1)
        normal = self._normal(current, rows, step, self._spread(distance, step))
        length = distance / math.sqrt(step)
        moved, open_ = current.clone(), torch.ones_like(rows, dtype=torch.bool)
        while True:
            # Shorter than any change that the model could see is no step.
            open_ &= self.task.oracle.active[rows] & (length > distance * 2.0**-20)
            left = open_.nonzero()[:, 0]
            if not len(left):
                return moved
            candidates = (current[left] + length[left, None, None, None] * normal[left]).clamp_(0, 1)
            hit = adversarial(self.task, self.render(candidates, rows[left]), rows[left])
            moved[left[hit]] = candidates[hit]
            open_[left[hit]] = False
            length = torch.where(open_, length / 2, length)

    def _spread(self, distance: torch.Tensor, step: int) -> torch.Tensor:
        if step == 1:
            delta = torch.full_like(distance, 0.1)
        else:
            share = self.threshold * (math.sqrt(self.size) if self.norm is Norm.L2 else self.size)
            delta = share * distance
        steps = self.params.grid_noise * (LINF_NOISE if self.norm is Norm.LINF else 1.0)
        least = steps * GRID_STEP * math.sqrt(self.size) if self.render.on_grid else 0.0
        return delta.clamp_min(max(least, 1e-6))

    def _normal(self, current: torch.Tensor, rows: torch.Tensor, step: int, delta: torch.Tensor) -> torch.Tensor:
        """The estimated normal (its sign for Linf), `(B, C, H, W)`, pointing to the adversarial side."""
        wanted = min(self.params.max_evaluations, int(self.params.initial_evaluations * math.sqrt(step)))
        count = (self.task.oracle.remaining[rows] - RESERVE).clamp(1, wanted)
        pieces = torch.split(torch.arange(len(rows), device=rows.device), max(1, ROWS // wanted))
        normal = torch.cat([self._estimate(current[p], rows[p], step, delta[p], count[p]) for p in pieces])
        if self.norm is Norm.LINF:
            return normal.sign()
        length: torch.Tensor = normal.flatten(1).norm(dim=1).clamp_min(1e-30)
        return normal / length[:, None, None, None]

    def _estimate(
        self, current: torch.Tensor, rows: torch.Tensor, step: int, delta: torch.Tensor, count: torch.Tensor
    ) -> torch.Tensor:
        most = int(count.max())
        nth = torch.arange(most, device=rows.device).expand(len(rows), most)
        asked = nth < count[:, None]
        owner = torch.arange(len(rows), device=rows.device)[:, None].expand_as(nth)[asked]
        draws = step * 2**32 + nth[asked]
        shape = current.shape[1:]
        if self.norm is Norm.L2:
            noise = self.noise.normal(rows[owner], draws, *shape)
        else:
            noise = self.noise.uniform(rows[owner], draws, *shape).mul_(2).sub_(1)
        spread = delta[owner, None, None, None]
        noise = noise.mul_(spread / noise.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None])
        candidates = self.render(current[owner] + noise, rows[owner])
        sign = adversarial(self.task, candidates, rows[owner]).float().mul_(2).sub_(1)
        mean = torch.zeros_like(delta).index_add_(0, owner, sign) / count
        uniform = mean.abs() == 1  # all of one side: their mean points there
        weight = torch.where(uniform[owner], sign, sign - mean[owner]) / count[owner]
        moved = (candidates - current[owner]).div_(spread)
        return torch.zeros_like(current).index_add_(0, owner, moved.mul_(weight[:, None, None, None]))
