"""The neighbourhood of every pixel, as shifted copies of the images."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def reflected(images: torch.Tensor, top: int, bottom: int, left: int, right: int, *, edge: bool = True) -> torch.Tensor:
    """`(N, C, top + H + bottom, left + W + right)`: `images` `(N, C, H, W)` mirrored at their border, again and again.

    `edge`: the border pixel itself is repeated, d c b a | a b c d | d c b a (scipy: reflect); without it the mirror
    stands on it, d c b | a b c d | c b a (scipy: mirror).
    """
    height, width = images.shape[-2:]
    rows = _mirror(top, height, bottom, edge, images.device)
    columns = _mirror(left, width, right, edge, images.device)
    return images.index_select(-2, rows).index_select(-1, columns)


def neighbours(images: torch.Tensor, height: int, width: int) -> Iterator[torch.Tensor]:
    """The `height * width` neighbours of every pixel, `(N, C, H, W)` each, row by row, mirrored at the border.

    An even window reaches one pixel further up and left than down and right.
    """
    high, wide = images.shape[-2:]
    padded = reflected(images, height // 2, (height - 1) // 2, width // 2, (width - 1) // 2)
    for top in range(height):
        for left in range(width):
            yield padded[..., top : top + high, left : left + wide]


def _mirror(before: int, size: int, after: int, edge: bool, device: torch.device) -> torch.Tensor:
    place = torch.arange(-before, size + after, device=device)
    if edge:
        place = place % (2 * size)
        return torch.minimum(place, 2 * size - 1 - place)
    period = max(1, 2 * size - 2)
    place = place % period
    return torch.minimum(place, period - place)
