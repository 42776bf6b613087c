"""Bounds of the values inside a network, layer after layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Activation, Choice, Largest, Lines, Relu
from charpy.bounds.affine import Affine, Move, Scale, size_of
from charpy.bounds.backward import Ends, Known
from charpy.bounds.graph import Graph, Node
from charpy.bounds.regions import Region
from charpy.bounds.slopes import best_lower_bounds

MOST = 2**25
"""Coefficients in one piece of a specification: larger ones are computed in pieces."""

AllLines = dict[int, Lines | Choice]


def known_bounds(graph: Graph, region: Region, steps: int = 0) -> Known:
    """Bounds of the inputs of every activation: intervals first, then backward for those that are unstable.

    Values whose sign the intervals decide keep them: tighter bounds would change nothing behind a ReLU. So do values
    that are one affine function of a box: their intervals are exact.

    Args:
        steps: of the search for better slopes, for each value; 0 takes the usual ones.
    """
    known: Known = {}
    lines: AllLines = {}
    values: list[Ends] = [region.hull()]
    single = [region.boxed]  # whether each value of a node depends on one value of a box
    exact = [region.boxed]
    cut = _cut(graph)
    for node in graph.nodes[1:]:
        op, sources = node.op, node.inputs
        if isinstance(op, Affine):
            values.append(_interval(op, [values[i] for i in sources]))
            exact.append(all(single[i] for i in sources) and len(sources) == 1)
            single.append(exact[-1] and isinstance(op, Scale | Move))
            continue
        undecided = _undecided(op, [values[i] for i in sources], len(values) in cut)
        for source, mask in zip(sources, undecided, strict=True):
            if source not in known:
                wanted = mask.flatten(1).any(0).nonzero()[:, 0]
                if len(wanted) and not exact[source]:
                    values[source] = _tighten(graph, source, wanted, values[source], lines, known, region, steps)
                known[source] = values[source]
        lines[len(values)] = _lines(node, known)
        low, high = zip(*(values[i] for i in sources), strict=True)
        assert op is not None
        values.append((op(*low), op(*high)))
        exact.append(False)
        single.append(False)
    return known


def lines_of(graph: Graph, known: Known) -> AllLines:
    """The lines of every activation, by its place, from the bounds of its inputs."""
    return {
        place: _lines(node, known)
        for place, node in enumerate(graph.nodes)
        if isinstance(node.op, Activation | Largest)
    }


def _lines(node: Node, known: Known) -> Lines | Choice:
    if isinstance(node.op, Largest):
        return node.op.lines(*_stacked([known[i] for i in node.inputs]))
    assert isinstance(node.op, Activation)
    return node.op.lines(*known[node.inputs[0]])


def _undecided(op: Activation | Largest | None, ends: list[Ends], cut: bool) -> list[torch.Tensor]:
    """For each input bool `(B, *shape)`: which of its values are worth better bounds."""
    if isinstance(op, Largest):
        low, high = _stacked(ends)
        open_ = op.unstable(low, high) & (high.amax(0) > 0 if cut else True)
        return [open_ & may_win for may_win in high > low.amax(0)]
    assert isinstance(op, Activation)
    return [op.unstable(*ends[0])]


def _cut(graph: Graph) -> set[int]:
    """The places whose negative values nobody sees: all that take them are ReLUs."""
    users: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for source in node.inputs:
            users.setdefault(source, []).append(node)
    return {place for place, nodes in users.items() if all(node.op == Relu() for node in nodes)}


def _stacked(ends: list[Ends]) -> Ends:
    return torch.stack([low for low, _ in ends]), torch.stack([high for _, high in ends])


def _interval(op: Affine, inputs: list[Ends]) -> Ends:
    middle = op(*((low + high) / 2 for low, high in inputs))
    half = op.spread(*((high - low) / 2 for low, high in inputs))
    return middle - half, middle + half


def _tighten(
    graph: Graph,
    node: int,
    wanted: torch.Tensor,
    ends: Ends,
    lines: Mapping[int, Lines | Choice],
    known: Known,
    region: Region,
    steps: int,
) -> Ends:
    """Better bounds of the values at the positions `wanted` in the flattened node."""
    shape = graph.nodes[node].shape
    low, high = (end.flatten(1).clone() for end in ends)
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
