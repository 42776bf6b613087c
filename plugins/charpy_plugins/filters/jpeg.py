"""JPEG compression and its reversal (ITU-T T.81, baseline; JFIF), in whole numbers, for a batch of images at once."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from charpy.pixels import quantise
from charpy.windows import reflected

Subsampling = Literal["4:4:4", "4:2:0"]

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)  # T.81, table K.1
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(4 * ((99, 99, 99, 99, 99, 99, 99, 99),)),
)  # T.81, table K.2
COSINES = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)  # sqrt(8) times the orthonormal transform's first four columns, in 1/8192: sums of the rounded constants of libjpeg's
FROM_RGB = ((19595, 38470, 7471), (-11058, -21710, 32768), (32768, -27439, -5329))  # JFIF 1.02, in 1/65536
TO_RGB = ((0, 91881), (-22554, -46802), (116130, 0))  # the share of chroma, in 1/65536


def jpeg(images: torch.Tensor, quality: int, subsampling: Subsampling) -> torch.Tensor:
    """`images` `(N, C, H, W)` in [0, 1], brought to 8 bits, compressed and decompressed; multiples of 1/255.

    Quality is that of the Independent JPEG Group's programs, 1..100; `4:2:0` halves the resolution of colour, which
    decompression interpolates (weights 3/4 and 1/4). Three channels are RGB; of another number each is an image of
    grey. No bits are written: what is lost is lost before. Constants and roundings are those of libjpeg, which Pillow
    uses. In float64 sums of whole numbers are exact: the result is the same on every machine and in every batch.
    """
    pixels = quantise(images).to(torch.float64)
    light = _table(LUMINANCE, quality, images.device)
    if images.shape[1] != 3:
        return _component(pixels, light).div_(255).to(images.dtype)
    colour = _table(CHROMINANCE, quality, images.device)
    luma, chroma = _from_rgb(pixels)
    if subsampling == "4:2:0":
        half = _component(_halved(chroma), colour)[..., : (images.shape[-1] + 1) // 2]
        chroma = _doubled(half)[..., : images.shape[-2], : images.shape[-1]]
    else:
        chroma = _component(chroma, colour)
    return _to_rgb(_component(luma, light), chroma).div_(255).to(images.dtype)


def _table(base: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> torch.Tensor:
    """float64 `(8, 8)` quantisation steps, scaled as the Independent JPEG Group does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = torch.tensor(base, device=device).mul_(scale).add_(50).div_(100, rounding_mode="floor")
    return scaled.clamp_(1, 255).to(torch.float64)


def _component(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """One component `(N, C, H, W)`, 0..255, there and back: 8 x 8 blocks, padded by their last row and column."""
    height, width = pixels.shape[-2:]
    padded = _extended(pixels, -height % 8, -width % 8)
    rows, columns = padded.shape[-2] // 8, padded.shape[-1] // 8
    blocks = padded.reshape(*pixels.shape[:2], rows, 8, columns, 8).transpose(-3, -2) - 128
    cosines = _cosines(pixels.device)
    along = _rounded(blocks @ cosines.T / 2048) / 4
    found = _rounded(cosines @ along / 8192).div_(8 * table)
    levels = found.sign() * _rounded(found.abs_())  # halves away from 0
    down = _rounded(cosines.T @ (levels * table) / 2048) / 4
    restored = _rounded(down @ cosines / (8 * 8192)).add_(128).clamp_(0, 255)
    return restored.transpose(-3, -2).reshape(padded.shape)[..., :height, :width]


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, halves up; in place."""
    return values.add_(0.5).floor_()


def _cosines(device: torch.device) -> torch.Tensor:
    """float64 `(8, 8)`, whole numbers: even rows are symmetric, odd ones change their sign."""
    left = torch.tensor(COSINES, dtype=torch.float64, device=device)
    right = left.flip(1)
    right[1::2] *= -1
    return torch.cat([left, right], 1)


def _extended(pixels: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return F.pad(pixels, (0, columns, 0, rows), mode="replicate") if rows or columns else pixels


def _from_rgb(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma `(N, 1, H, W)` and chroma `(N, 2, H, W)` of RGB, 0..255; halves of luma go up, of chroma down."""
    found = _mixed(pixels, FROM_RGB)
    return _rounded(found[:, :1]), _rounded(found[:, 1:] + (128 - 1 / 65536))


def _to_rgb(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    return _rounded(_mixed(chroma - 128, TO_RGB)).add_(luma).clamp_(0, 255)


def _mixed(channels: torch.Tensor, shares: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    matrix = torch.tensor(shares, dtype=torch.float64, device=channels.device)
    return torch.einsum("oc,nchw->nohw", matrix, channels).div_(65536)


def _halved(chroma: torch.Tensor) -> torch.Tensor:
    """Means of 2 x 2 pixels, of whole blocks in width; halves are rounded down in even columns and up in odd ones."""
    even = _extended(chroma, chroma.shape[-2] % 2, -chroma.shape[-1] % 16)
    total = even[..., ::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, ::2] + even[..., 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[-1], device=chroma.device) % 2
    return total.add_(bias).div_(4).floor_()


def _doubled(chroma: torch.Tensor) -> torch.Tensor:
    """Twice the resolution: each value 3/4 of the nearest and 1/4 of the next one, in both directions."""
    if chroma.shape[-1] <= 2:  # so narrow an image is not interpolated
        return chroma.repeat_interleave(2, -2).repeat_interleave(2, -1)
    near = reflected(chroma, 1, 1, 1, 1)  # mirrored by one pixel: the edge twice
    rows = torch.stack([3 * near[..., 1:-1, :] + near[..., :-2, :], 3 * near[..., 1:-1, :] + near[..., 2:, :]], -2)
    rows = rows.flatten(-3, -2)
    left = (3 * rows[..., 1:-1] + rows[..., :-2]).add_(8)
    right = (3 * rows[..., 1:-1] + rows[..., 2:]).add_(7)
    return torch.stack([left, right], -1).div_(16).floor_().flatten(-2)
