"""The median of a window around every pixel, by a network of comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch

from charpy.windows import neighbours


def median(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The median `(N, C, H, W)` of `height` x `width` windows of each channel, mirrored at the border.

    Of an even number of values it is the larger middle one, as in scipy.ndimage.median_filter. Autograd follows the
    value that is chosen; equal values share its gradient.
    """
    values = list(neighbours(images, height, width))
    middle = len(values) // 2
    for step in _network(len(values), middle):
        one, other = values[step.first], values[step.second]
        if step.smaller:
            values[step.first] = torch.minimum(one, other)
        if step.larger:
            values[step.second] = torch.maximum(one, other)
    return values[middle].clone()


class Comparison(NamedTuple):
    """The smaller value goes to `first`, the larger to `second`, as far as somebody asks for them."""

    first: int
    second: int
    smaller: bool
    larger: bool


@cache
def _network(count: int, rank: int) -> tuple[Comparison, ...]:
    """Comparisons after which place `rank` of `count` holds the value of that rank.

    Batcher's odd-even merge sort (Knuth, The art of computer programming 3, section 5.2.2, algorithm M), without what
    does not lead to that place.
    """
    wanted, kept = {rank}, []
    for first, second in reversed(list(_merge_sort(count))):
        if first in wanted or second in wanted:
            kept.append(Comparison(first, second, first in wanted, second in wanted))
            wanted |= {first, second}
    return tuple(reversed(kept))


def _merge_sort(count: int) -> Iterator[tuple[int, int]]:
    largest = 1 << max(0, (count - 1).bit_length() - 1)
    step = largest
    while step > 0:
        apart, remainder, merge = step, 0, largest
        while True:
            yield from ((i, i + apart) for i in range(count - apart) if i & step == remainder)
            if merge == step:
                break
            apart, merge, remainder = merge - step, merge // 2, step
        step //= 2
