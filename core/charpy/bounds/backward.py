"""Backward propagation (CROWN, Zhang et al. 2018): linear functions of a node's values, pulled back to the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Activation, Lines
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region

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
