"""Distances of every image of one set from every image of another: whole matrices for the norms, pairs for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charpy.errors import PluginError, SpecError
from charpy.pixels import as_images
from charpy.threat import BALLS, Norm

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.metric import Metric

PIECE_VALUES = 1 << 22
"""Image values of the pairs that are formed at once."""

_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""


def distance_matrix(norm: Norm, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """float64 `(N, M)` distances of images `(N, C, H, W)` from `(M, C, H, W)`: pixels (L0), otherwise 1/255 steps.

    Both are uint8 pixels, for which L0, L1 and Linf are exact and so is the square of L2, or float images in [0, 1].
    L2 is |a|^2 + |b|^2 - 2ab, one matrix product; the others compare value by value without forming the pairs.

    Raises:
        SpecError: no norm but a threat without a ball.
    """
    import torch

    if norm not in BALLS:
        raise SpecError("no distance belongs to it", where="norm", found=str(norm), expected=", ".join(map(str, BALLS)))
    if norm is Norm.L0:
        return _changed(first, second)
    if norm is Norm.L2:
        one, other = _steps(first, torch.float64), _steps(second, torch.float64)
        squares = one @ other.T
        squares.mul_(-2).add_(one.square().sum(1)[:, None]).add_(other.square().sum(1))  # in place: there may be many
        return squares.clamp_min_(0).sqrt_()
    exact = first.dtype == torch.uint8 and 255 * first[0].numel() < _EXACT
    kind = torch.float32 if exact else torch.float64
    order = 1.0 if norm is Norm.L1 else float("inf")
    return torch.cdist(_steps(first, kind), _steps(second, kind), p=order).double()


def metric_matrix(metric: Metric, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """float64 `(N, M)` values of any metric: `first` `(N, C, H, W)` as originals, `second` `(M, C, H, W)` as changed.

    uint8 pixels or float images in [0, 1]; the pairs are formed in batches.

    Raises:
        DataError: the metric cannot measure such images.
        PluginError: the metric does not give one value for each pair.
    """
    import torch

    found = torch.empty(len(first) * len(second), dtype=torch.float64, device=first.device)
    pairs = torch.arange(len(found), device=first.device)
    for part in torch.split(pairs, pairs_at_once(first)):
        values = measured(metric, first[part // len(second)], second[part % len(second)])
        found[part] = values
    return found.view(len(first), len(second))


def measured(metric: Metric, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
    """float64 `(N,)` values of pairs, uint8 or float.

    Raises:
        PluginError: the metric does not give one value for each pair.
    """
    import torch

    with torch.no_grad():
        values = metric(as_images(images), as_images(perturbed))
    if values.shape != (len(images),):
        raise PluginError(
            "a metric must give one value for each pair",
            where=type(metric).__name__,
            found=tuple(values.shape),
            expected=(len(images),),
        )
    return values.to(torch.float64)


def pairs_at_once(images: torch.Tensor) -> int:
    """How many pairs of such images are formed at once."""
    return max(1, PIECE_VALUES // images.shape[1:].numel())


def _steps(images: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """`(N, C * H * W)` in 1/255 steps."""
    flat = images.flatten(1).to(kind)
    return flat if not images.is_floating_point() else flat * 255


def _changed(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """float64 `(N, M)` numbers of places at which any channel differs."""
    import torch

    channels = first.shape[1]
    if channels == 1 or (channels == 3 and first.dtype == torch.uint8):  # a pixel is one exact float32
        one, other = (_codes(images) for images in (first, second))
        return torch.cdist(one, other, p=0.0).double()
    found = torch.empty(len(first), len(second), dtype=torch.float64, device=first.device)
    step = pairs_at_once(first)
    for rows in torch.split(torch.arange(len(first), device=first.device), max(1, step // len(second))):
        for columns in torch.split(torch.arange(len(second), device=first.device), step):
            differ = (first[rows, None] != second[None, columns]).any(2)
            found[rows[:, None], columns] = differ.flatten(2).sum(2).double()
    return found


def _codes(images: torch.Tensor) -> torch.Tensor:
    """float32 `(N, H * W)`, one number for each pixel: the value itself, or 256^2 r + 256 g + b."""
    import torch

    if images.shape[1] == 1:
        return images.flatten(1).to(torch.float32)
    weights = torch.tensor([65536.0, 256.0, 1.0], device=images.device)[:, None, None]
    return (images.to(torch.float32) * weights).sum(1).flatten(1)
