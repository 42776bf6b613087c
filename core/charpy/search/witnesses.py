"""The nearest witness of each sample that a minimum-norm attack has met, and the search for one on the way to it."""

from __future__ import annotations

import torch

from charpy.geometry import norm_of
from charpy.interfaces.attack import Task
from charpy.losses import margin
from charpy.pixels import GRID_TOLERANCE
from charpy.threat import Grid, Norm

_TOWARDS = 0.02
"""Each trial lies this share of the bracket beyond the estimated boundary: on it, rounding would decide."""


class Witnesses:
    """The nearest witness of every sample of a task.

    Attributes:
        images: `(N, C, H, W)`; the original where there is none.
        distance: `(N,)` in the threat's norm; inf where there is none.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.images = task.images.clone()
        self.distance = torch.full((len(task.labels),), torch.inf, device=task.images.device)
        self._margin = torch.full_like(self.distance, torch.nan)
        self._clean = torch.full_like(self.distance, torch.nan)

    @property
    def found(self) -> torch.Tensor:
        """int64 `(F,)`: samples that have a witness."""
        return self.distance.isfinite().nonzero()[:, 0]

    def look(self, points: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """`(B,)` margins of points near the boundary, one query each, NaN where refused; witnesses are kept.

        On the 8-bit grid, where Linf counts whole steps, each value is rounded away from the original: that costs
        nothing, and to the nearest point the last half of a step would be lost or won by chance.
        """
        threat, originals = self._task.threat, self._task.images[sample]
        if threat.grid is Grid.EIGHT_BIT and threat.norm is Norm.LINF:
            moved = (points - originals) * 255
            points = (originals + moved.sign() * (moved.abs() - GRID_TOLERANCE).ceil() / 255).clamp(0, 1)
        targets = None if self._task.targets is None else self._task.targets[sample]
        margins = margin(self._task.oracle.scores(points, sample), self._task.labels[sample], targets)
        self.meet(sample, points, margins)
        return margins

    def begin(self, sample: torch.Tensor, margins: torch.Tensor) -> None:
        """Note the margins `(B,)` of the originals."""
        self._clean[sample] = margins

    def meet(self, sample: torch.Tensor, points: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
        """Keep each point that is a witness nearer than its sample's so far; bool `(B,)`, which are witnesses.

        A sample may be named once.
        """
        reached = margins < 0
        distance = norm_of(self._task.threat.norm, points - self._task.images[sample])
        nearer = reached & (distance < self.distance[sample])
        chosen = sample[nearer]
        self.images[chosen], self.distance[chosen] = points[nearer], distance[nearer]
        self._margin[chosen] = margins[nearer]
        return reached

    def tighten(self, steps: int) -> None:
        """Look `steps` times on the segment from each original to its witness for the boundary, one query each.

        The margin is interpolated linearly between the ends of a bracket; the end that stays twice counts half
        (regula falsi, the Illinois rule).
        """
        sample = self.found[self._task.oracle.active[self.found]]
        sample = sample[self._clean[sample] > 0]
        original, far = self._task.images[sample], self.images[sample]
        low, high = torch.zeros(len(sample), device=far.device), torch.ones(len(sample), device=far.device)
        inside, outside = self._clean[sample], self._margin[sample]
        before = torch.zeros_like(low)
        for _ in range(steps):
            if not bool(self._task.oracle.active[sample].any()):
                return
            part = (inside / (inside - outside) + _TOWARDS).clamp(0.02, 0.98)
            place = low + (high - low) * part
            trial = original + (far - original) * place[:, None, None, None]
            margins = self.look(trial, sample)
            reached = margins < 0
            side = reached.to(low.dtype) * 2 - 1
            again = (side == before) & margins.isfinite()
            stays = margins >= 0
            inside = torch.where(stays, margins, torch.where(again & reached, inside / 2, inside))
            outside = torch.where(reached, margins, torch.where(again & stays, outside / 2, outside))
            low, high = torch.where(stays, place, low), torch.where(reached, place, high)
            before = side
