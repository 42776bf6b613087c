"""Images as bytes: what lies on the 8-bit grid, how images are stored, and exact distances between stored images."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from charpy.errors import DataError
from charpy.threat import COUNTED, Grid, Norm, ThreatModel

if TYPE_CHECKING:
    import torch

GRID_TOLERANCE = 1e-3
"""How far 255 * x may be from a whole number for x to count as k/255 (float32 rounding is below 1e-4)."""

REAL_TOLERANCE = 1e-6
"""Slack of a distance check off the grid, in image values; on the grid there is none."""


def quantise(images: torch.Tensor) -> torch.Tensor:
    """uint8 of the grid points nearest to `images`; uint8 input is returned as it is. NaN becomes 0."""
    import torch

    if images.dtype == torch.uint8:
        return images
    return images.mul(255).round_().clamp_(0, 255).nan_to_num_(0.0).to(torch.uint8)


def snap(threat: ThreatModel, originals: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """uint8 grid points near `images` `(M, C, H, W)`: the nearest, but never outside a ball that the image was inside.

    Rounding moves an image by up to half a step in every value, which takes one at the edge of the ball out of it. Such
    an image is moved towards its original (`originals`, uint8) until it is inside again.
    """
    import torch

    pixels = quantise(images)
    if images.dtype == torch.uint8 or threat.norm in COUNTED:
        return pixels
    exact = originals.to(torch.float32)
    delta = images.to(torch.float32) * 255 - exact
    radius = threat.radius * 255
    if threat.norm is Norm.LINF:
        most = int(radius + 1e-9)
        near = exact + pixels.to(torch.float32).sub_(exact).clamp_(-most, most)
        was_inside = (delta.flatten(1).abs().amax(1) <= radius + 255 * REAL_TOLERANCE)[:, None, None, None]
        return torch.where(was_inside, near.to(torch.uint8), pixels)
    lost = _norm(threat.norm, delta) <= radius + 255 * REAL_TOLERANCE
    lost &= _norm(threat.norm, pixels.to(torch.float32) - exact) > radius
    if not bool(lost.any()):
        return pixels
    pixels[lost] = _shrunk(threat.norm, exact[lost], delta[lost], radius)
    return pixels


def _shrunk(norm: Norm, exact: torch.Tensor, delta: torch.Tensor, radius: float) -> torch.Tensor:
    """uint8 grid points at `exact + s delta`, for nearly the largest s <= 1 that rounds to a point within `radius`."""
    import torch

    found = delta.trunc()  # always inside: no value grows
    size = _norm(norm, found)
    low = torch.zeros(len(delta), device=delta.device)
    high = torch.ones_like(low)
    for _ in range(7):
        middle = (low + high) / 2
        tried = (delta * middle[:, None, None, None]).round_()
        length = _norm(norm, tried)
        fits = length <= radius
        longer = (fits & (length >= size)).nonzero()[:, 0]
        found.index_copy_(0, longer, tried.index_select(0, longer))
        size[longer] = length[longer]
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return found.add_(exact).clamp_(0, 255).to(torch.uint8)


def _norm(norm: Norm, delta: torch.Tensor) -> torch.Tensor:
    flat = delta.flatten(1)
    return flat.abs().sum(1) if norm is Norm.L1 else flat.square().sum(1).sqrt()


def as_images(pixels: torch.Tensor) -> torch.Tensor:
    """float32 images in [0, 1] of uint8 `pixels`; float input is returned as it is."""
    import torch

    return pixels.to(torch.float32).div_(255) if pixels.dtype == torch.uint8 else pixels


def on_grid(images: torch.Tensor) -> bool:
    """Whether every value of `images` is a multiple of 1/255."""
    scaled = images * 255
    return bool(((scaled - scaled.round()).abs() <= GRID_TOLERANCE).all())


def pack(image: torch.Tensor, grid: Grid) -> bytes:
    """One image `(C, H, W)` as stored bytes: uint8 on the grid, little-endian float32 off it, deflated."""
    pixels = quantise(image) if grid is Grid.EIGHT_BIT else image.float()
    kind = "|u1" if grid is Grid.EIGHT_BIT else "<f4"
    return zlib.compress(np.ascontiguousarray(pixels.cpu().numpy(), dtype=kind).tobytes(), 6)


def unpack(data: bytes, shape: tuple[int, int, int], grid: Grid) -> torch.Tensor:
    """The stored image as uint8 (on the grid) or float32 (off it), `(C, H, W)`.

    Raises:
        DataError: the bytes are no image of this shape.
    """
    import torch

    kind = np.dtype("|u1") if grid is Grid.EIGHT_BIT else np.dtype("<f4")
    size = int(np.prod(shape)) * kind.itemsize
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as cause:
        raise DataError("stored image cannot be inflated", found=cause) from None
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        raise DataError("stored image has the wrong size", found=f"{len(raw)} bytes", expected=f"{size} for {shape}")
    return torch.from_numpy(np.frombuffer(raw, kind).reshape(shape).copy())


def distances(norm: Norm, originals: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`(N,)` distances of `(N, C, H, W)` pairs: whole pixels (L0), 0 or 1 (unrestricted), else 1/255 steps as float64.

    uint8 pairs give exact whole numbers for L0, L1 and Linf.
    """
    import torch

    if originals.dtype != images.dtype:
        originals, images = as_images(originals), as_images(images)
    if norm is Norm.L0:
        return (originals != images).any(dim=1).flatten(1).sum(1)
    if norm is Norm.UNRESTRICTED:
        return (originals != images).flatten(1).any(1).to(torch.int64)
    scale = 1 if images.dtype == torch.uint8 else 255
    gap = images.flatten(1).to(torch.float64).sub(originals.flatten(1)).abs_().mul_(scale)
    if norm is Norm.LINF:
        return gap.amax(1)
    return gap.sum(1) if norm is Norm.L1 else gap.square().sum(1).sqrt()


def inside(threat: ThreatModel, originals: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """bool `(N,)`: which images the threat model allows for their originals.

    On the grid the check is exact; off it a distance may exceed the radius by `REAL_TOLERANCE`.
    """
    import torch

    if images.dtype == torch.uint8:
        limit = threat.radius if threat.norm in COUNTED else threat.radius * 255 + 1e-9
        return distances(threat.norm, originals, images) <= limit
    box = ((images >= 0) & (images <= 1)).flatten(1).all(1)
    limit = threat.radius if threat.norm in COUNTED else (threat.radius + REAL_TOLERANCE) * 255
    return box & (distances(threat.norm, originals, images) <= limit)
