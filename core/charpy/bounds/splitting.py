"""Branch and bound over the activations of a network: what one relaxation leaves open is proven part by part.

Sources: Bunel et al. 2020, Branch and bound for piecewise linear neural network verification (JMLR); Wang et al. 2021,
Beta-CROWN (NeurIPS), equations 8 to 12: the choices of a part enter its bound as constraints with multipliers; De Palma
et al. 2021, Improved branch and bound for neural network verification via Lagrangian decomposition: candidates by a
score, the best of a few by their bounds. Splitting a window of max pooling by its largest value is ours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from charpy.bounds.activations import Activation, Largest, Lines, Relu
from charpy.bounds.affine import size_of
from charpy.bounds.backward import Ends, Known, lower_bounds
from charpy.bounds.graph import Graph
from charpy.bounds.inner import AllLines, lines_of
from charpy.bounds.regions import Region

RATE, FALL = 0.1, 0.97
"""Learning rate of slopes and multipliers, and what is left of it after each step."""

CANDIDATES = 3
"""Splits of one part that are tried before the best is made."""

COEFFICIENTS = 2**19
"""In the largest value of one batch of parts."""

Values = dict[int, torch.Tensor]
"""By place in the graph, `(D, *shape of the node)`, or `(D, k, *shape)` for the largest of k values."""


@dataclass(frozen=True)
class Parts:
    """D parts of a region, each to be proven for one function of the network's answers.

    Attributes:
        rows: `(D, K)`, the coefficients of that function.
        marks: what is decided: of a ReLU int8, 1 its value is its input, -1 it is flat, 0 open; of a largest value
            bool, which of the k it may be.
        slopes: of the lines below open ReLUs.
        weights: multipliers of the constraints, never negative.
        bound: `(D,)`, a lower bound of the function over the part.
    """

    rows: torch.Tensor
    marks: Values
    slopes: Values
    weights: Values
    bound: torch.Tensor

    def at(self, where: torch.Tensor) -> Parts:
        """Some of the parts, or some of them several times."""
        marks, slopes, weights = (
            {place: value[where] for place, value in values.items()}
            for values in (self.marks, self.slopes, self.weights)
        )
        return Parts(self.rows[where], marks, slopes, weights, self.bound[where])

    def and_also(self, other: Parts) -> Parts:
        """These and those."""
        pairs = ((self.marks, other.marks), (self.slopes, other.slopes), (self.weights, other.weights))
        marks, slopes, weights = (
            {place: torch.cat([value, theirs[place]]) for place, value in mine.items()} for mine, theirs in pairs
        )
        return Parts(torch.cat([self.rows, other.rows]), marks, slopes, weights, torch.cat([self.bound, other.bound]))

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Splitting:
    """Proves functions of a network's answers over one set of images.

    Attributes:
        graph: the network.
        region: one set (B = 1).
        known: bounds of the inputs of its activations.
        slack: what a bound must leave.
        steps: of the search for slopes and multipliers, for each batch of parts.
    """

    graph: Graph
    region: Region
    known: Known
    slack: float
    steps: int

    @cached_property
    def lines(self) -> AllLines:
        """Of the whole region."""
        return lines_of(self.graph, self.known)

    def proves(self, rows: torch.Tensor, deadline: float) -> bool:
        """Whether all functions with coefficients `rows` `(S, K)` stay above the slack, as far as the time allows."""
        widest = max(size_of(node.shape) for node in self.graph.nodes)
        most = max(2, COEFFICIENTS // widest // 2)
        pile = self._open(self._bounded(self._whole(rows)))
        if not pile.marks:
            return not len(pile)
        piles: list[Parts] = []
        while len(pile) or piles:
            if time.monotonic() > deadline:
                return False
            while piles and len(pile) < most:
                pile = pile.and_also(piles.pop())
            if not len(pile):
                break
            order = torch.arange(len(pile), device=pile.bound.device)
            piles.append(pile.at(order[most:]))
            pile = self._open(self._bounded(self._split(pile.at(order[:most]))))
        return True

    def _open(self, parts: Parts) -> Parts:
        return parts.at((~(parts.bound > self.slack)).nonzero()[:, 0])  # NaN is no proof

    def _whole(self, rows: torch.Tensor) -> Parts:
        """The region itself, nothing decided."""
        marks, slopes, weights = {}, {}, {}
        for place, line in self.lines.items():
            op, shape = self.graph.nodes[place].op, (len(rows), *self.graph.nodes[place].shape)
            if isinstance(op, Relu):
                marks[place] = torch.zeros(shape, dtype=torch.int8, device=rows.device)
                slopes[place] = line.below.expand(shape).clone()
                weights[place] = torch.zeros(shape, dtype=rows.dtype, device=rows.device)
            elif isinstance(op, Largest):
                low, high = self.known[self.graph.nodes[place].inputs[0]]
                shape = (len(rows), *low.shape[1:])
                marks[place] = (high >= low.amax(1, keepdim=True)).expand(shape).clone()
                weights[place] = torch.zeros(shape, dtype=rows.dtype, device=rows.device)
        return Parts(rows, marks, slopes, weights, torch.full((len(rows),), -torch.inf, device=rows.device))

    def _input_ends(self, place: int, parts: Parts) -> Ends:
        """Of a ReLU's input, `(D, *shape)`, with what is decided."""
        source, mark = self.graph.nodes[place].inputs[0], parts.marks[place]
        low, high = (end.expand(mark.shape) for end in self.known[source])
        if source in parts.marks and isinstance(self.graph.nodes[source].op, Largest):
            under, over = self._candidates(source, parts)
            low, high = torch.maximum(low, under.amax(1)), torch.minimum(high, over.amax(1))
            high = torch.maximum(low, high)
        return torch.where(mark > 0, low.clamp_min(0), low), torch.where(mark < 0, high.clamp_max(0), high)

    def _candidates(self, place: int, parts: Parts) -> Ends:
        """Of the values that a largest one may still be, `(D, k, *shape)`; -infinity for the others."""
        alive = parts.marks[place]
        low, high = self.known[self.graph.nodes[place].inputs[0]]
        return torch.where(alive, low, -torch.inf), torch.where(alive, high, -torch.inf)

    def _ends(self, place: int, parts: Parts) -> Ends:
        """Of the input of an activation, with what is decided."""
        largest = isinstance(self.graph.nodes[place].op, Largest)
        return self._candidates(place, parts) if largest else self._input_ends(place, parts)

    def _lines(self, parts: Parts) -> AllLines:
        """Those that the decisions leave; without a dimension for B, as parts are rows of one region."""
        lines: AllLines = {}
        for place in parts.marks:
            op = self.graph.nodes[place].op
            assert isinstance(op, Activation)
            lines[place] = op.lines(*self._ends(place, parts))
        return lines

    def _limits(self, place: int, line: Lines) -> Ends:
        """Least and largest slope of the lines below a ReLU: those of its sides where it is open, else its own."""
        op = self.graph.nodes[place].op
        assert isinstance(op, Relu)
        open_ = line.above_shift > 0
        return torch.where(open_, op.slope, line.below), torch.where(open_, 1.0, line.below)

    def _lower(
        self, parts: Parts, lines: AllLines, slopes: Values, weights: Values, seen: Values | None = None
    ) -> torch.Tensor:
        """`(D,)` bounds with these lines, slopes and multipliers."""
        chosen = dict(self.lines)
        for place, mark in parts.marks.items():
            line = lines[place]
            below = slopes.get(place, line.below)
            tilt = weights[place] * -mark if place in slopes else _against(mark, weights[place])
            chosen[place] = Lines(
                below[None], line.below_shift[None], line.above[None], line.above_shift[None], tilt[None]
            )
        return lower_bounds(self.graph, len(self.graph.nodes) - 1, parts.rows[None], chosen, self.region, seen)[0]

    def _plain(self, parts: Parts, seen: Values | None = None) -> torch.Tensor:
        """`(D,)` bounds with the slopes and multipliers that the parts have."""
        lines = self._lines(parts)
        slopes = {place: slope.clamp(*self._limits(place, lines[place])) for place, slope in parts.slopes.items()}
        return self._lower(parts, lines, slopes, parts.weights, seen)

    def _bounded(self, parts: Parts) -> Parts:
        """The parts with better slopes and multipliers, and the best bounds found."""
        lines = self._lines(parts)
        limits = {place: self._limits(place, lines[place]) for place in parts.slopes}
        slopes = {place: slope.clamp(*limits[place]).requires_grad_(True) for place, slope in parts.slopes.items()}
        weights = {place: value.clone().requires_grad_(True) for place, value in parts.weights.items()}
        best = parts.bound
        free, steps = [*slopes.values(), *weights.values()], self.steps if parts.marks else 0
        optimiser = torch.optim.Adam(free, lr=RATE, fused=True) if steps else None
        for step in range(steps + 1):
            with torch.set_grad_enabled(step < steps):
                bound = self._lower(parts, lines, slopes, weights)
                best = torch.maximum(best, bound.detach())
                if optimiser is None or step == steps or bool((best > self.slack).all()):
                    break
                optimiser.zero_grad()
                torch.autograd.backward(-bound.sum())
            optimiser.step()
            with torch.no_grad():
                for place, slope in slopes.items():
                    slope.clamp_(*limits[place])
                for weight in weights.values():
                    weight.clamp_min_(0)
            optimiser.param_groups[0]["lr"] *= FALL
        slopes, weights = ({place: value.detach() for place, value in values.items()} for values in (slopes, weights))
        return Parts(parts.rows, parts.marks, slopes, weights, best)

    def _split(self, parts: Parts) -> Parts:
        """Two parts of each, by the best of a few candidates; the part itself where nothing is left to split."""
        seen: Values = {}
        self._plain(parts, seen)
        scores = {place: self._scores(place, parts, seen[place][0]) for place in parts.marks}
        flat = torch.cat([score.flatten(1) for score in scores.values()], 1)
        count = min(CANDIDATES, flat.shape[1])
        value, chosen = flat.topk(count, dim=1)
        whole, splits = (value[:, 0] <= 0).nonzero()[:, 0], (value[:, 0] > 0).nonzero()[:, 0]
        if len(whole):
            rest = parts.at(whole)
            return rest.and_also(self._split(parts.at(splits))) if len(splits) else rest
        copies = torch.arange(len(parts), device=flat.device).repeat_interleave(count)
        tried = [self._decided(parts.at(copies), scores, chosen.flatten(), side) for side in (True, False)]
        bounds = [self._plain(part).view(-1, count) for part in tried]
        worth = sum(bound.clamp_max(self.slack) for bound in bounds)
        worth = torch.where(value > 0, worth, -torch.inf)
        best = worth.argmax(1) + count * torch.arange(len(parts), device=flat.device)
        return tried[0].at(best).and_also(tried[1].at(best))

    def _scores(self, place: int, parts: Parts, rows: torch.Tensor) -> torch.Tensor:
        """`(D, *shape)`: how much the bound could gain if the activation were decided; 0 where it is."""
        op = self.graph.nodes[place].op
        if isinstance(op, Largest):
            low, high = self._candidates(place, parts)
            second = high.topk(2, dim=1).values[:, 1] if high.shape[1] > 1 else high.amin(1)
            gap = (second - low.amax(1)).clamp_min(0)
            return torch.where(parts.marks[place].sum(1) > 1, rows.abs() * gap, 0.0)
        assert isinstance(op, Relu)
        low, high = self._input_ends(place, parts)
        slope, line = parts.slopes[place], op.lines(low, high)
        under = torch.maximum(-low * (slope - op.slope), high * (1 - slope)) / 2
        gain = rows.clamp_min(0) * under - rows.clamp_max(0) * line.above_shift
        return torch.where(op.unstable(low, high), gain, 0.0)

    def _decided(self, parts: Parts, scores: Values, chosen: torch.Tensor, side: bool) -> Parts:
        """One side of a split of each part; `chosen` `(D,)` are positions in all scores."""
        marks, start = dict(parts.marks), 0
        for place, score in scores.items():
            size = score[0].numel()
            here = ((chosen >= start) & (chosen < start + size)).nonzero()[:, 0]
            at = chosen[here] - start
            start += size
            if not len(here):
                continue
            mark = marks[place].clone()
            if isinstance(self.graph.nodes[place].op, Largest):
                top = self._candidates(place, parts)[1].flatten(2)[here, :, at].argmax(1)
                flat = mark.flatten(2)
                if side:
                    flat[here, :, at] = False
                flat[here, top, at] = side
                mark = flat.view(mark.shape)
            else:
                mark.flatten(1)[here, at] = 1 if side else -1
            marks[place] = mark
        return replace(parts, marks=marks)


def _against(alive: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Coefficients `(D, k, *shape)` of the sum over j of w_j (x_j - x_i), where only i is alive; 0 elsewhere."""
    left = alive.sum(1, keepdim=True) == 1
    others = torch.where(left & ~alive, weights, 0.0)
    return torch.where(left & alive, -others.sum(1, keepdim=True), others)
