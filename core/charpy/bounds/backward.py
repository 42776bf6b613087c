"""Backward propagation (CROWN, Zhang et al. 2018): linear functions of a node's values, pulled back to the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Choice, Lines
from charpy.bounds.affine import Affine
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region

Ends = tuple[torch.Tensor, torch.Tensor]
Known = dict[int, Ends]
"""Lower and upper bounds `(B, *shape)` of the inputs of activations, by their place in the graph."""


def lower_bounds(
    graph: Graph, node: int, rows: torch.Tensor, lines: Mapping[int, Lines | Choice], region: Region
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
        line = lines.get(place)
        pulled: tuple[torch.Tensor, ...]
        if isinstance(line, Choice):
            pulled, shift = _chosen(current, line)
            total = total + shift
        elif isinstance(line, Lines):
            current, shift = _through(current, line)
            total = total + shift
            pulled = (current,)
        else:
            assert isinstance(op, Affine), "an activation without lines"
            if op.constant is not None:
                total = total + (current * op.constant).flatten(2).sum(2)
            pulled = tuple(part.view(batch, count, *part.shape[1:]) for part in op.transpose(current.flatten(0, 1)))
        for source, part in zip(inputs, pulled, strict=True):
            pending[source] = part if source not in pending else pending[source] + part
    return total + region.lowest(pending[0]) if 0 in pending else total


def _chosen(rows: torch.Tensor, line: Choice) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """A positive coefficient goes to the value chosen below, a negative one to that above, or takes the number."""
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    shift = (negative * line.above_shift[:, None]).flatten(2).sum(2)
    pairs = zip(line.below, line.above, strict=True)
    return tuple(positive * below[:, None] + negative * above[:, None] for below, above in pairs), shift


def _through(rows: torch.Tensor, lines: Lines) -> tuple[torch.Tensor, torch.Tensor]:
    """A positive coefficient takes the line below, a negative one the line above."""
    wide = rows.ndim
    below, below_shift, above, above_shift = (line if line.ndim == wide else line[:, None] for line in lines)
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    shift = (positive * below_shift + negative * above_shift).flatten(2).sum(2)
    return positive * below + negative * above, shift
