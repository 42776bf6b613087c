"""Forward propagation: each value between two linear functions of the few values of the image that are free.

Cheap where d, the number of free values, is small: an affine operator costs 2 (d + 1) passes, whatever its width.
Source: the forward mode of linear relaxation (Xu et al. 2020, section 3), with the mean of the two functions and half
their distance carried along instead of the functions themselves: |L| takes the second through an affine operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from charpy.bounds.activations import Activation
from charpy.bounds.graph import Graph
from charpy.bounds.regions import Narrow

Functions = torch.Tensor
"""`(B, 1 + d, *shape)`: the value at the region's base, and the slope along each of its free values."""


def forward_bounds(graph: Graph, region: Narrow) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower and upper bounds `(B, K)` of the graph's answers over B sets."""
    return _ends(region, *forward_functions(graph, region))


def forward_functions(graph: Graph, region: Narrow) -> tuple[Functions, Functions | None]:
    """The mean of the linear functions below and above each answer, and half their distance (None: 0)."""
    means: dict[int, Functions] = {}
    halves: dict[int, Functions | None] = {}
    last_use = {source: place for place, node in enumerate(graph.nodes) for source in node.inputs}
    for place, node in enumerate(graph.nodes):
        if node.op is None:
            mean, half = _input(region), None
        elif isinstance(node.op, Activation):
            mean, half = _activate(node.op, region, means[node.inputs[0]], halves[node.inputs[0]])
        else:
            inputs = [means[source] for source in node.inputs]
            mean = _each(node.op.linear, inputs)
            if node.op.constant is not None:
                mean[:, 0] += node.op.constant
            widths = [halves[source] for source in node.inputs]
            half = None
            if any(width is not None for width in widths):
                known = [torch.zeros_like(m) if w is None else w for m, w in zip(inputs, widths, strict=True)]
                half = _each(node.op.spread, known)
        means[place], halves[place] = mean, half
        for source in set(node.inputs):
            if last_use[source] == place:  # wide networks would not fit otherwise
                del means[source], halves[source]
    return mean, half


def _each(operator: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    rows, functions = inputs[0].shape[:2]
    answer = operator(*(value.flatten(0, 1) for value in inputs))
    return answer.view(rows, functions, *answer.shape[1:])


def _input(region: Narrow) -> Functions:
    rows, free = region.places.shape
    base = region.base
    slopes = torch.zeros(rows, free, base[0].numel(), dtype=base.dtype, device=base.device)
    slopes.scatter_(2, region.places[:, :, None], 1.0)
    return torch.cat([base[:, None], slopes.view(rows, free, *base.shape[1:])], 1)


def _ends(region: Narrow, mean: Functions, half: Functions | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The interval of each value."""
    low, high = (mean, mean) if half is None else (mean - half, mean + half)
    return low[:, 0] + region.least(low[:, 1:]), high[:, 0] - region.least(-high[:, 1:])


def _activate(
    function: Activation, region: Narrow, mean: Functions, half: Functions | None
) -> tuple[Functions, Functions | None]:
    """Lines through the two functions: their slopes are never negative."""
    low, high = _ends(region, mean, half)
    lines = function.lines(low, high)
    under, over = (mean, mean) if half is None else (mean - half, mean + half)
    below, above = lines.below[:, None] * under, lines.above[:, None] * over
    if lines.below.ndim > lines.below_shift.ndim:
        below, above = below.sum(2), above.sum(2)
    below[:, 0] += lines.below_shift
    above[:, 0] += lines.above_shift
    return (below + above) / 2, (above - below) / 2
