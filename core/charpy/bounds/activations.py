"""The activation functions of a graph, value by value, and straight lines below and above them on an interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from typing_extensions import override

_TOUCH_STEPS = 30
"""Halvings in the search for the point where a tangent touches."""


class Lines(NamedTuple):
    """`below . x + below_shift <= f(x) <= above . x + above_shift` on the intervals of x.

    All of the shape of f's values; of the largest of a group, `below` and `above` have its dimension, too. `tilt` is
    added to the coefficients of x: multipliers of constraints, so that tilt . x <= 0; None for 0.
    """

    below: torch.Tensor
    below_shift: torch.Tensor
    above: torch.Tensor
    above_shift: torch.Tensor
    tilt: torch.Tensor | None = None


class Activation(ABC):
    """A function that never falls: of one value each, or of the k values of a group."""

    @abstractmethod
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """f of values `(B, *shape)`."""

    @abstractmethod
    def lines(self, low: torch.Tensor, high: torch.Tensor) -> Lines:
        """Lines below and above f on `[low, high]`, both `(B, *shape)`."""

    def unstable(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """bool: where tighter bounds could give better lines."""
        return high > low


@dataclass(frozen=True)
class Largest(Activation):
    """The largest of each group: from values `(B, k, *shape)` to `(B, *shape)`."""

    @override
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return values.amax(1)

    @override
    def lines(self, low: torch.Tensor, high: torch.Tensor) -> Lines:
        """Below: the value with the largest lower bound. Above: the chord of max(x, M) over the value with the largest
        upper bound, M that of the others; the value itself where no other reaches it.
        """
        top = _first_largest(high)
        others = high.masked_fill(top, -torch.inf).amax(1)
        least, most = low.masked_fill(~top, -torch.inf).amax(1), high.amax(1)
        settled = others <= least
        slope = torch.where(settled, 1.0, (most - others) / (most - least).clamp_min(1e-30)).to(low)
        shift = torch.where(settled, 0.0, others - slope * least).to(low)
        return Lines(_first_largest(low).to(low), torch.zeros_like(shift), top * slope[:, None], shift)

    @override
    def unstable(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Of groups in which no value is sure to be the largest, those that may be."""
        open_ = high.masked_fill(_first_largest(high), -torch.inf).amax(1) > low.amax(1)
        return open_[:, None] & (high > low.amax(1, keepdim=True))


def _first_largest(values: torch.Tensor) -> torch.Tensor:
    """bool `(B, k, *shape)`: one largest value of each group. (`argmax` takes 25 times as long on a CPU.)"""
    largest = values == values.amax(1, keepdim=True)
    before = torch.zeros_like(largest[:, 0])
    first = []
    for place in largest.unbind(1):
        first.append(place & ~before)
        before = before | place
    return torch.stack(first, 1)


@dataclass(frozen=True)
class Relu(Activation):
    """max(x, slope x), slope below 1: ReLU with 0, leaky ReLU otherwise (Zhang et al. 2018, CROWN, table 2)."""

    slope: float = 0.0

    @override
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values >= 0, values, self.slope * values) if self.slope else values.clamp_min(0)

    def lines(self, low: torch.Tensor, high: torch.Tensor) -> Lines:
        """Above: the chord. Below: the steeper or the flatter side, whichever leaves the smaller triangle."""
        negative, positive = low.clamp_max(0), high.clamp_min(0)
        chord = (positive - self.slope * negative) / (positive - negative).clamp_min(1e-30)
        crossing = (low < 0) & (high > 0)
        flat, steep = torch.full_like(low, self.slope), torch.ones_like(low)
        side = torch.where(torch.where(crossing, high >= -low, high > 0), steep, flat)
        above = torch.where(crossing, chord, side)
        shift = torch.where(crossing, (self.slope - chord) * negative, torch.zeros_like(low))
        return Lines(side, torch.zeros_like(side), above, shift)

    @override
    def unstable(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return (low < 0) & (high > 0)


class _Sigmoidal(Activation):
    """Convex below 0, concave above it."""

    @abstractmethod
    def slope_at(self, values: torch.Tensor) -> torch.Tensor:
        """The derivative."""

    def lines(self, low: torch.Tensor, high: torch.Tensor) -> Lines:
        """Tangent on the side where the function bends away, else the chord; never steeper than what is sound."""
        chord = self._chord(low, high)
        middle = (low + high) / 2
        below_at = torch.where(high <= 0, middle, self._touch(high, low))
        above_at = torch.where(low >= 0, middle, self._touch(low, high))
        below = torch.where(low >= 0, chord, self.slope_at(below_at))
        below_from = torch.where(low >= 0, low, below_at)
        above = torch.where(high <= 0, chord, self.slope_at(above_at))
        above_from = torch.where(high <= 0, high, above_at)
        # Where the tangent would touch beyond the interval, the chord is the line.
        beyond_below, beyond_above = (below_at <= low) & (low < 0) & (high > 0), (above_at >= high) & (low < 0)
        beyond_above &= high > 0
        below = torch.where(beyond_below, chord, below)
        below_from = torch.where(beyond_below, low, below_from)
        above = torch.where(beyond_above, chord, above)
        above_from = torch.where(beyond_above, high, above_from)
        return Lines(below, self(below_from) - below * below_from, above, self(above_from) - above * above_from)

    def _chord(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        wide = high - low > 1e-6
        chord = (self(high) - self(low)) / (high - low).clamp_min(1e-6)
        return torch.where(wide, chord, self.slope_at((low + high) / 2))

    def _touch(self, anchor: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Where a tangent through (anchor, f(anchor)) touches between 0 and `end`, or `end` if it would be beyond.

        Bisection; the side is taken on which the tangent passes the anchor on the outside.
        """
        near, far = torch.zeros_like(end), end.clone()
        for _ in range(_TOUCH_STEPS):
            middle = (near + far) / 2
            line = self(middle) + self.slope_at(middle) * (anchor - middle)
            outside = (line - self(anchor)) * torch.where(end >= anchor, 1.0, -1.0).to(end) >= 0
            near, far = torch.where(outside, near, middle), torch.where(outside, middle, far)
        return far


class Sigmoid(_Sigmoidal):
    """1 / (1 + exp(-x))."""

    @override
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return values.sigmoid()

    @override
    def slope_at(self, values: torch.Tensor) -> torch.Tensor:
        value = values.sigmoid()
        return value * (1 - value)


class Tanh(_Sigmoidal):
    """The hyperbolic tangent."""

    @override
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return values.tanh()

    @override
    def slope_at(self, values: torch.Tensor) -> torch.Tensor:
        return 1 - values.tanh().square()
