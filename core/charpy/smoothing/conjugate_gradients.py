"""Conjugate gradients for (I - alpha N) x = b on the pixel graph (Hestenes & Stiefel 1952)."""

from __future__ import annotations

import torch

from charpy.smoothing.graph import Graph

CHECK = 5
"""Iterations between two looks at whether all systems are solved."""

BLOCK = 2**18
"""Values of a batch that a CPU works on at once: what an iteration reads and writes stays in its cache."""


def conjugate_gradients(
    graph: Graph, alpha: float, right: torch.Tensor, *, iterations: int, tolerance: float
) -> torch.Tensor:
    """x `(N, C, P)` with (I - alpha N) x = `right`, each channel of each image a system of its own.

    A system that is solved stands still: what it gives does not depend on the others of the batch.

    Args:
        graph: of N images.
        alpha: in [0, 1).
        right: `(N, C, P)`.
        iterations: at most.
        tolerance: of the residual, relative to the right side, in the L2 norm.
    """
    count = max(1, BLOCK // right.shape[1:].numel()) if right.is_cpu else len(right)
    x = torch.empty_like(right)
    for begin in range(0, len(right), count):
        part = slice(begin, begin + count)
        x[part] = _solve(graph.rows(part), alpha, right[part], iterations, tolerance)
    return x


def _solve(graph: Graph, alpha: float, right: torch.Tensor, iterations: int, tolerance: float) -> torch.Tensor:
    # The squares of values below 1e-19 are 0 in float32, those above 1e19 infinite.
    unit = right.abs().amax(2, keepdim=True)
    unit = torch.where((unit > 0) & unit.isfinite(), unit, 1.0)
    right = right / unit
    x, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    size = _dot(residual, residual)
    enough = tolerance**2 * size
    image = torch.empty_like(right)
    for step in range(iterations):
        going = size > enough
        if step % CHECK == 0 and not bool(going.any()):
            break
        image.copy_(direction)
        graph.add(image, direction, -alpha)
        length = torch.where(going, size / _dot(direction, image), 0.0)
        x.addcmul_(length, direction)
        residual.addcmul_(length, image, value=-1)
        before, size = size, _dot(residual, residual)
        direction.mul_(torch.where(going, size / before, 0.0)).add_(residual)
    return x.mul_(unit)


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum(2, keepdim=True)
