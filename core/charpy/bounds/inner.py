"""Bounds of the values inside a network, layer after layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Activation, Lines
from charpy.bounds.affine import Affine, size_of
from charpy.bounds.backward import Ends, Known
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region
from charpy.bounds.slopes import best_lower_bounds

MOST = 2**25
"""Coefficients in one piece of a specification: larger ones are computed in pieces."""


def known_bounds(graph: Graph, region: Region, steps: int = 0) -> Known:
    """Bounds of the inputs of every activation: intervals first, then backward for those that are unstable.

    Values whose sign the intervals decide keep them: tighter bounds would change nothing behind a ReLU.

    Args:
        steps: of the search for better slopes, for each value; 0 takes the usual ones.
    """
    known: Known = {}
    lines: dict[int, Lines] = {}
    values: list[tuple[torch.Tensor, torch.Tensor]] = [region.hull()]
    for place, node in enumerate(graph.nodes[1:], 1):
        if not isinstance(node.op, Activation):
            values.append(_interval(node.op, [values[i] for i in node.inputs]))
            continue
        source = node.inputs[0]
        low, high = known.get(source, values[source])
        if source not in known:
            low, high = _tighten(graph, source, node.op, (low, high), lines, known, region, steps)
            known[source] = low, high
        lines[place] = node.op.lines(low, high)
        values[source] = low, high
        values.append((node.op(low), node.op(high)))
    return known


def lines_of(graph: Graph, known: Known) -> dict[int, Lines]:
    """The lines of every activation, by its place, from the bounds of its inputs."""
    return {
        place: node.op.lines(*known[node.inputs[0]])
        for place, node in enumerate(graph.nodes)
        if isinstance(node.op, Activation)
    }


def _interval(op: Affine | None, inputs: list[Ends]) -> Ends:
    assert op is not None
    middle = op(*((low + high) / 2 for low, high in inputs))
    half = op.spread(*((high - low) / 2 for low, high in inputs))
    return middle - half, middle + half


def _tighten(
    graph: Graph,
    node: int,
    function: Activation,
    ends: Ends,
    lines: Mapping[int, Lines],
    known: Known,
    region: Region,
    steps: int,
) -> Ends:
    """Better bounds of the values that are unstable in any row of the batch."""
    (low, high), shape = ends, graph.nodes[node].shape
    wanted = function.unstable(low, high).flatten(1).any(0).nonzero()[:, 0]
    if not len(wanted):
        return low, high
    low, high = low.flatten(1).clone(), high.flatten(1).clone()
    widest = max(size_of(graph.nodes[place].shape) for place in range(node + 1))
    piece = max(1, (MOST >> 3 if steps else MOST) // (widest * len(region)))
    for part in torch.split(wanted, piece):
        rows = torch.zeros(len(part), size_of(shape), dtype=low.dtype, device=low.device)
        rows[torch.arange(len(part)), part] = 1
        rows = rows.view(1, len(part), *shape).expand(len(region), -1, *[-1] * len(shape))
        below, above = (best_lower_bounds(graph, node, sign * rows, known, lines, region, steps) for sign in (1, -1))
        low[:, part] = torch.maximum(low[:, part], below)
        high[:, part] = torch.minimum(high[:, part], -above)
    low = torch.minimum(low, high)  # rounding may cross the two where they meet
    return low.view(-1, *shape), high.view(-1, *shape)
