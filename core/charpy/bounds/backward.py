"""Backward propagation (CROWN, Zhang et al. 2018): linear functions of a node's values, pulled back to the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Activation, Lines
from charpy.bounds.affine import Affine, size_of
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region

MOST = 2**25
"""Coefficients in one piece of a specification: larger ones are computed in pieces."""

Ends = tuple[torch.Tensor, torch.Tensor]
Known = dict[int, Ends]
"""Lower and upper bounds `(B, *shape)` of the inputs of activations, by their place in the graph."""


def lower_bounds(
    graph: Graph, node: int, rows: torch.Tensor, lines: Mapping[int, Lines], region: Region
) -> torch.Tensor:
    """`(B, S)` lower bounds of linear functions of a node's values.

    Args:
        rows: `(B, S, *shape of the node)`, their coefficients.
        lines: by the place of each activation below `node`, the lines that bound it, `(B, *shape)` or with one more
            dimension for S, `(B, S, *shape)`.
    """
    batch, count = rows.shape[:2]
    pending = {node: rows}
    total = torch.zeros(batch, count, dtype=rows.dtype, device=rows.device)
    for place in range(node, 0, -1):
        if place not in pending:
            continue
        current, op, inputs = pending.pop(place), graph.nodes[place].op, graph.nodes[place].inputs
        if isinstance(op, Activation):
            current, shift = _through(current, lines[place])
            total = total + shift
            pulled: tuple[torch.Tensor, ...] = (current,)
        else:
            assert op is not None
            if op.constant is not None:
                total = total + (current * op.constant).flatten(2).sum(2)
            pulled = tuple(part.view(batch, count, *part.shape[1:]) for part in op.transpose(current.flatten(0, 1)))
        for source, part in zip(inputs, pulled, strict=True):
            pending[source] = part if source not in pending else pending[source] + part
    return total + region.lowest(pending[0]) if 0 in pending else total


def _through(rows: torch.Tensor, lines: Lines) -> tuple[torch.Tensor, torch.Tensor]:
    """A positive coefficient takes the line below, a negative one the line above."""
    wide = rows.ndim
    below, below_shift, above, above_shift = (line if line.ndim == wide else line[:, None] for line in lines)
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    shift = (positive * below_shift + negative * above_shift).flatten(2).sum(2)
    return positive * below + negative * above, shift


def known_bounds(graph: Graph, region: Region) -> Known:
    """Bounds of the inputs of every activation: intervals first, then backward for those that are unstable.

    Values whose sign the intervals decide keep them: tighter bounds would change nothing behind a ReLU.
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
            low, high = _tighten(graph, source, node.op, low, high, lines, region)
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
    low: torch.Tensor,
    high: torch.Tensor,
    lines: Mapping[int, Lines],
    region: Region,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Better bounds of the values that are unstable in any row of the batch."""
    shape = graph.nodes[node].shape
    wanted = function.unstable(low, high).flatten(1).any(0).nonzero()[:, 0]
    if not len(wanted):
        return low, high
    low, high = low.flatten(1).clone(), high.flatten(1).clone()
    widest = max(size_of(graph.nodes[place].shape) for place in range(node + 1))
    piece = max(1, MOST // (widest * len(region)))
    for part in torch.split(wanted, piece):
        rows = torch.zeros(len(part), size_of(shape), dtype=low.dtype, device=low.device)
        rows[torch.arange(len(part)), part] = 1
        rows = rows.view(1, len(part), *shape).expand(len(region), -1, *[-1] * len(shape))
        low[:, part] = torch.maximum(low[:, part], lower_bounds(graph, node, rows, lines, region))
        high[:, part] = torch.minimum(high[:, part], -lower_bounds(graph, node, -rows, lines, region))
    low = torch.minimum(low, high)  # rounding may cross the two where they meet
    return low.view(-1, *shape), high.view(-1, *shape)
