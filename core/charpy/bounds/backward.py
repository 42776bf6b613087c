"""Backward propagation (CROWN, Zhang et al. 2018): linear functions of a node's values, pulled back to the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.bounds.activations import Lines
from charpy.bounds.affine import Affine
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Region

Ends = tuple[torch.Tensor, torch.Tensor]
Known = dict[int, Ends]
"""Lower and upper bounds `(B, *shape)` of the inputs of activations, by their place in the graph."""


def lower_bounds(
    graph: Graph,
    node: int,
    rows: torch.Tensor,
    lines: Mapping[int, Lines],
    region: Region,
    seen: dict[int, torch.Tensor] | None = None,
) -> torch.Tensor:
    """`(B, S)` lower bounds of linear functions of a node's values.

    Args:
        rows: `(B, S, *shape of the node)`, their coefficients.
        lines: by the place of each activation below `node`, the lines that bound it, `(B, *shape)` or with one more
            dimension for S, `(B, S, *shape)`.
        seen: takes the coefficients `(B, S, *shape)` that each activation's value has in the functions.
    """
    batch, count = rows.shape[:2]
    pending = {node: rows}
    total = torch.zeros(batch, count, dtype=rows.dtype, device=rows.device)
    for place in range(node, 0, -1):
        if place not in pending:
            continue
        current, op, inputs = pending.pop(place), graph.nodes[place].op, graph.nodes[place].inputs
        line = lines.get(place)
        if seen is not None and line is not None:
            seen[place] = current
        pulled: tuple[torch.Tensor, ...]
        if line is not None:
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


def _through(rows: torch.Tensor, lines: Lines) -> tuple[torch.Tensor, torch.Tensor]:
    """A positive coefficient takes the line below, a negative one the line above."""
    group = lines.below.ndim - lines.below_shift.ndim  # 1 where the lines are of groups
    below, above = (_for_rows(line, rows.ndim + group) for line in (lines.below, lines.above))
    below_shift, above_shift = (_for_rows(shift, rows.ndim) for shift in (lines.below_shift, lines.above_shift))
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    shift = (positive * below_shift + negative * above_shift).flatten(2).sum(2)
    if group:
        positive, negative = positive.unsqueeze(2), negative.unsqueeze(2)
    pulled = positive * below + negative * above
    return pulled if lines.tilt is None else pulled + _for_rows(lines.tilt, pulled.ndim), shift


def _for_rows(value: torch.Tensor, wide: int) -> torch.Tensor:
    """`(B, S, ...)`: the same for all S where it has no such dimension."""
    return value if value.ndim == wide else value.unsqueeze(1)
