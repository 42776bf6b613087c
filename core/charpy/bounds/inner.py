"""Bounds of the values inside a network, layer after layer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import torch

from charpy.bounds.activations import Activation, Largest, Lines, Relu
from charpy.bounds.affine import Affine, Move, Scale, size_of
from charpy.bounds.backward import Ends, Known
from charpy.bounds.graph import Graph, Node
from charpy.bounds.regions import Region
from charpy.bounds.slopes import best_lower_bounds

MOST = 2**25
"""Coefficients in one piece of a specification: larger ones are computed in pieces."""

AllLines = dict[int, Lines]


def known_bounds(graph: Graph, region: Region, steps: int = 0, deadline: float = math.inf) -> Known:
    """Bounds of the inputs of every activation: intervals first, then backward for those that are unstable.

    Values whose sign the intervals decide keep them: tighter bounds would change nothing behind a ReLU. So do values
    that are one affine function of a box: their intervals are exact.

    Args:
        steps: of the search for better slopes, for each value; 0 takes the usual ones.
        deadline: a time of `time.monotonic`; values whose turn comes later keep their intervals.
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
            single.append(all(single[i] for i in sources) and isinstance(op, Scale | Move))
            exact.append(all((exact if isinstance(op, Move) else single)[i] for i in sources) and len(sources) == 1)
            continue
        assert op is not None
        (source,) = sources
        if source not in known:
            wanted = _undecided(op, values[source], len(values) in cut).flatten(1)
            if bool(wanted.any()) and not exact[source]:
                values[source] = _tighten(graph, source, wanted, values[source], lines, known, region, steps, deadline)
            known[source] = values[source]
        low, high = values[source]
        lines[len(values)] = op.lines(low, high)
        values.append((op(low), op(high)))
        exact.append(False)
        single.append(False)
    return known


def lines_of(graph: Graph, known: Known) -> AllLines:
    """The lines of every activation, by its place, from the bounds of its inputs."""
    return {
        place: node.op.lines(*known[node.inputs[0]])
        for place, node in enumerate(graph.nodes)
        if isinstance(node.op, Activation)
    }


def _undecided(op: Activation, ends: Ends, cut: bool) -> torch.Tensor:
    """bool `(B, *shape)`: which values are worth better bounds; `cut`: what is not above 0 is seen by nobody."""
    open_ = op.unstable(*ends)
    return open_ & (ends[1].amax(1, keepdim=True) > 0) if cut and isinstance(op, Largest) else open_


def _cut(graph: Graph) -> set[int]:
    """The places whose negative values nobody sees: all that take them are ReLUs."""
    users: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for source in node.inputs:
            users.setdefault(source, []).append(node)
    return {place for place, nodes in users.items() if all(node.op == Relu() for node in nodes)}


def _interval(op: Affine, inputs: list[Ends]) -> Ends:
    middle = op(*((low + high) / 2 for low, high in inputs))
    half = op.spread(*((high - low) / 2 for low, high in inputs))
    return middle - half, middle + half


def _tighten(
    graph: Graph,
    node: int,
    wanted: torch.Tensor,
    ends: Ends,
    lines: Mapping[int, Lines],
    known: Known,
    region: Region,
    steps: int,
    deadline: float,
) -> Ends:
    """Better bounds of the values that are `wanted`, bool `(B, size of the node)`.

    Each set has places of its own, the wanted ones first; where it has fewer than another, some of its others fill up.
    """
    shape, many = graph.nodes[node].shape, int(wanted.sum(1).max())
    places = wanted.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :many]
    low, high = (end.flatten(1).clone() for end in ends)
    widest = max(size_of(graph.nodes[place].shape) for place in range(node + 1))
    piece = max(1, (MOST >> 3 if steps else MOST) // (widest * len(region)))
    for part in torch.split(places, piece, dim=1):
        if time.monotonic() > deadline:
            break
        rows = torch.zeros(*part.shape, size_of(shape), dtype=low.dtype, device=low.device)
        rows = rows.scatter_(2, part[:, :, None], 1.0).view(*part.shape, *shape)
        below, above = (best_lower_bounds(graph, node, sign * rows, known, lines, region, steps) for sign in (1, -1))
        low.scatter_(1, part, torch.maximum(low.gather(1, part), below))
        high.scatter_(1, part, torch.minimum(high.gather(1, part), -above))
    low = torch.minimum(low, high)  # rounding may cross the two where they meet
    return low.view(-1, *shape), high.view(-1, *shape)
