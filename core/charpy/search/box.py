"""A box of feasible genes, and the smooth map onto it that lets an unbounded evolution strategy search inside."""

from __future__ import annotations

import torch


class Box:
    """Bounds `lower < upper`, each `(B, D)` or `(1, D)`.

    Near a bound the map is curved in a zone a twentieth of the bound wide, at most half the box (pycma's choice).
    """

    def __init__(self, lower: torch.Tensor, upper: torch.Tensor) -> None:
        self.lower, self.upper = lower, upper
        half = (upper - lower) / 2
        self.below = torch.minimum(half, lower.abs().clamp_min(1) / 20)
        self.above = torch.minimum(half, upper.abs().clamp_min(1) / 20)

    def rows(self, index: torch.Tensor) -> Box:
        """The bounds of the samples at `index` (all samples share them when there is only one row)."""
        if len(self.lower) == 1:
            return self
        part = Box.__new__(Box)
        part.lower, part.upper = self.lower[index], self.upper[index]
        part.below, part.above = self.below[index], self.above[index]
        return part

    def fold(self, genes: torch.Tensor) -> torch.Tensor:
        """Any real `genes` `(B, P, D)` as points of the box: identity inside, quadratic near a bound, mirrored beyond.

        The transformation that Hansen's pycma uses for box constraints (`BoundTransform`): inside
        [lower + below, upper - above] it is the identity; up to three times that beyond, a parabola touches the bound;
        further out it repeats as in a mirror.
        """
        low, high = self.lower[:, None], self.upper[:, None]
        below, above = self.below[:, None], self.above[:, None]
        # Two mirrors, at low - below and high + above, give a triangle wave of period 2 * span.
        start, end = low - below, high + above
        span = end - start
        offset = (genes - start).remainder_(2 * span)
        x = start + torch.minimum(offset, 2 * span - offset)
        near_low = (x - start).square_().div_(4 * below).add_(low)
        near_high = high - (x - end).square_().div_(4 * above)
        return torch.where(x < low + below, near_low, torch.where(x > high - above, near_high, x))

    def unfold(self, points: torch.Tensor) -> torch.Tensor:
        """Genes `(B, D)` that `fold` maps to `points` `(B, D)` of the box."""
        low, high = self.lower, self.upper
        near_low = low - self.below + 2 * ((points - low).clamp_min(0) * self.below).sqrt()
        near_high = high + self.above - 2 * ((high - points).clamp_min(0) * self.above).sqrt()
        inner = torch.where(points > high - self.above, near_high, points)
        return torch.where(points < low + self.below, near_low, inner)
