"""A box of feasible genes, and the smooth map onto it that lets an unbounded evolution strategy search inside."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Box:
    """Bounds `lower < upper`, each `(B, D)` or `(1, D)`."""

    lower: torch.Tensor
    upper: torch.Tensor

    def rows(self, index: torch.Tensor) -> Box:
        """The bounds of the samples at `index` (all samples share them when there is only one row)."""
        return self if len(self.lower) == 1 else Box(self.lower[index], self.upper[index])

    @property
    def margins(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Width of the curved zone inside each bound: a twentieth of the bound, at most half the box."""
        half = (self.upper - self.lower) / 2
        low, high = (bound.abs().clamp_min(1) / 20 for bound in (self.lower, self.upper))
        return torch.minimum(half, low), torch.minimum(half, high)

    def fold(self, genes: torch.Tensor) -> torch.Tensor:
        """Any real `genes` `(B, P, D)` as points of the box: identity inside, quadratic near a bound, mirrored beyond.

        The transformation that Hansen's pycma uses for box constraints (`BoundTransform`): inside
        [lower + al, upper - au] it is the identity; up to 3 al beyond that a parabola touches the bound; further out
        it repeats as in a mirror.
        """
        low, high = self.lower[:, None], self.upper[:, None]
        below, above = (margin[:, None] for margin in self.margins)
        # Two mirrors, at low - below and high + above, give a triangle wave of period 2 * span.
        start, span = low - below, (high + above) - (low - below)
        offset = torch.remainder(genes - start, 2 * span)
        x = start + torch.where(offset > span, 2 * span - offset, offset)
        near_low = low + (x - start).square() / (4 * below)
        near_high = high - (x - (high + above)).square() / (4 * above)
        return torch.where(x < low + below, near_low, torch.where(x > high - above, near_high, x))

    def unfold(self, points: torch.Tensor) -> torch.Tensor:
        """Genes `(B, D)` that `fold` maps to `points` `(B, D)` of the box."""
        below, above = self.margins
        low, high = self.lower, self.upper
        near_low = low - below + 2 * ((points - low).clamp_min(0) * below).sqrt()
        near_high = high + above - 2 * ((high - points).clamp_min(0) * above).sqrt()
        return torch.where(points < low + below, near_low, torch.where(points > high - above, near_high, points))
