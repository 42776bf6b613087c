"""Better lines below unstable ReLUs: their slopes are chosen by gradient ascent on the bound itself (alpha-CROWN)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Lines, Relu
from charpy.bounds.backward import Known, lower_bounds
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region

RATE, FALL = 0.25, 0.9
"""Learning rate of the slopes, and what is left of it after each step."""


def best_lower_bounds(
    graph: Graph,
    node: int,
    rows: torch.Tensor,
    known: Known,
    lines: Mapping[int, Lines],
    region: Region,
    steps: int,
) -> torch.Tensor:
    """`(B, S)` lower bounds of linear functions `rows` `(B, S, *shape)` of a node's values; the best of several.

    Every row has slopes of its own at every unstable ReLU: any slope from that of its flat side to 1 is sound. Source:
    Xu et al. 2021, Fast and complete (alpha-CROWN); the bounds of inner values stay as they are.
    """
    best = lower_bounds(graph, node, rows, lines, region)
    if not steps or bool((best > 0).all()):
        return best
    below = graph.below(node)
    free = {place: _unstable(graph, place, known) for place in below if isinstance(graph.nodes[place].op, Relu)}
    free = {place: where for place, where in free.items() if bool(where.any())}
    if not free:
        return best
    slopes = {place: _start(lines[place], rows.shape[1]).requires_grad_(True) for place in free}
    optimiser = torch.optim.Adam(slopes.values(), lr=RATE)
    for _ in range(steps):
        with torch.enable_grad():
            chosen = {
                place: _with(lines[place], slopes.get(place), free.get(place)) for place in below if place in lines
            }
            bound = lower_bounds(graph, node, rows, chosen, region)
            optimiser.zero_grad()
            torch.autograd.backward(-bound.sum())
        best = torch.maximum(best, bound.detach())
        if bool((best > 0).all()):
            break
        optimiser.step()
        with torch.no_grad():
            for place, slope in slopes.items():
                op = graph.nodes[place].op
                slope.clamp_(op.slope if isinstance(op, Relu) else 0.0, 1.0)
        optimiser.param_groups[0]["lr"] *= FALL
    return best


def _unstable(graph: Graph, place: int, known: Known) -> torch.Tensor:
    low, high = known[graph.nodes[place].inputs[0]]
    return (low < 0) & (high > 0)


def _start(lines: Lines, count: int) -> torch.Tensor:
    """The given slopes, for every row: `(B, S, *shape)`."""
    return lines.below[:, None].expand(-1, count, *[-1] * (lines.below.ndim - 1)).clone()


def _with(lines: Lines, slope: torch.Tensor | None, free: torch.Tensor | None) -> Lines:
    if slope is None or free is None:
        return lines
    below = torch.where(free[:, None], slope, lines.below[:, None])
    return Lines(below, *(line[:, None] for line in lines[1:4]))
