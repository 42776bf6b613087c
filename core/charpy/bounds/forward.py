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
from charpy.bounds.regions import FewValues

Functions = torch.Tensor
"""`(B, 1 + d, *shape)`: the value at the middle of the box, and the change towards each free value's upper end."""


def forward_bounds(graph: Graph, region: FewValues) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower and upper bounds `(B, K)` of the graph's answers over B boxes."""
    means: list[Functions] = []
    halves: list[Functions | None] = []
    for node in graph.nodes:
        if node.op is None:
            mean, half = _input(region), None
        elif isinstance(node.op, Activation):
            mean, half = _activate(node.op, means[node.inputs[0]], halves[node.inputs[0]])
        else:
            inputs = [means[place] for place in node.inputs]
            mean = _each(node.op.linear, inputs)
            if node.op.constant is not None:
                mean[:, 0] += node.op.constant
            widths = [halves[place] for place in node.inputs]
            half = None
            if any(width is not None for width in widths):
                known = [torch.zeros_like(m) if w is None else w for m, w in zip(inputs, widths, strict=True)]
                half = _each(node.op.spread, known)
        means.append(mean)
        halves.append(half)
    return _ends(means[-1], halves[-1])


def _each(operator: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    rows, functions = inputs[0].shape[:2]
    answer = operator(*(value.flatten(0, 1) for value in inputs))
    return answer.view(rows, functions, *answer.shape[1:])


def _input(region: FewValues) -> Functions:
    half = (region.high - region.low) / 2
    rows, free = region.places.shape
    steps = torch.zeros(rows, free, region.images[0].numel(), dtype=half.dtype, device=half.device)
    steps.scatter_(2, region.places[:, :, None], half[:, :, None])
    middle = region.at(region.low + half)
    return torch.cat([middle[:, None], steps.view(rows, free, *region.images.shape[1:])], 1)


def _ends(mean: Functions, half: Functions | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The interval of each value."""
    if half is None:
        reach = mean[:, 1:].abs().sum(1)
        return mean[:, 0] - reach, mean[:, 0] + reach
    low, high = mean - half, mean + half
    return low[:, 0] - low[:, 1:].abs().sum(1), high[:, 0] + high[:, 1:].abs().sum(1)


def _activate(function: Activation, mean: Functions, half: Functions | None) -> tuple[Functions, Functions | None]:
    """Lines through the two functions: their slopes are never negative."""
    low, high = _ends(mean, half)
    lines = function.lines(low, high)
    under, over = (mean, mean) if half is None else (mean - half, mean + half)
    below, above = lines.below[:, None] * under, lines.above[:, None] * over
    below[:, 0] += lines.below_shift
    above[:, 0] += lines.above_shift
    return (below + above) / 2, (above - below) / 2
