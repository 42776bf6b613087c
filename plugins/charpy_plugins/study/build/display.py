"""Images as they are shown: enlarged, as PNG, and brought back to what a model takes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch

from charpy.errors import DataError
from charpy_plugins.study.document import Resampling

BICUBIC = -0.5
"""Slope of the cubic kernel at 1 (Keys 1981), which makes it exact for polynomials of degree 2."""

LOBES = 3
"""Of the Lanczos kernel, to either side."""


def enlarged(pixels: torch.Tensor, size: int, resampling: Resampling) -> torch.Tensor:
    """uint8 `(N, C, size H, size W)` of uint8 `pixels` `(N, C, H, W)`.

    A linear map along each side, each pixel of the result lying at the middle of its place; beyond the edge there is
    nothing, and the weights of what is inside make up for it. `nearest` repeats every pixel `size` x `size` times.
    """
    if size == 1:
        return pixels
    if resampling is Resampling.NEAREST:
        return pixels.repeat_interleave(size, 2).repeat_interleave(size, 3)
    rows, columns = (_weights(side, size, resampling).to(pixels.device) for side in pixels.shape[2:])
    values = torch.einsum("yh,nchw,xw->ncyx", rows, pixels.double(), columns)
    return values.round_().clamp_(0, 255).to(torch.uint8)


def brought_back(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 `(N, C, H, W)` of uint8 `(N, C, size H, size W)`: means of `size` x `size` pixels, rounded.

    The exact inverse of `enlarged` with `nearest`.
    """
    count, channels, height, width = pixels.shape
    tiles = pixels.double().reshape(count, channels, height // size, size, width // size, size)
    return tiles.mean((3, 5)).round_().to(torch.uint8)


def png(pixels: torch.Tensor) -> list[bytes]:
    """A PNG of each of uint8 `(N, C, H, W)`, C = 1 (grey) or 3 (colour).

    Raises:
        DataError: another number of channels.
    """
    from PIL import Image

    check_channels(pixels.shape[1])
    found = []
    for image in pixels.permute(0, 2, 3, 1).cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image if image.shape[2] == 3 else image[..., 0])).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def read_png(files: Sequence[bytes], channels: int) -> torch.Tensor:
    """uint8 `(N, C, H, W)` of PNG files of one size, as `png` wrote them."""
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    images = []
    for data in files:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode != mode:
                raise DataError("a PNG of another kind", found=f"mode {image.mode}", expected=f"mode {mode}")
            images.append(np.atleast_3d(np.asarray(image)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def check_channels(channels: int) -> None:
    """Refuse images that a browser could not show as they are.

    Raises:
        DataError: neither 1 nor 3 channels.
    """
    if channels not in (1, 3):
        raise DataError(
            "such images cannot be shown to people as they are",
            found=f"{channels} channels",
            expected="1 channel (grey) or 3 (red, green, blue)",
            hint="a study is about what a person sees, so charpy does not choose channels or mix them",
        )


def _weights(side: int, size: int, resampling: Resampling) -> torch.Tensor:
    """float64 `(size side, side)`: what each pixel gives to each pixel of the enlarged side; rows sum to 1."""
    kernel, reach = _KERNELS[resampling]
    middle = (torch.arange(side * size, dtype=torch.float64) + 0.5) / size - 0.5
    distance = (middle[:, None] - torch.arange(side, dtype=torch.float64)).abs()
    weights = torch.where(distance < reach, kernel(distance), 0.0)
    return weights / weights.sum(1, keepdim=True)


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return 1 - x


def _cubic(x: torch.Tensor) -> torch.Tensor:
    near = ((BICUBIC + 2) * x - (BICUBIC + 3)) * x * x + 1
    return torch.where(x < 1, near, BICUBIC * (((x - 5) * x + 8) * x - 4))


def _lanczos(x: torch.Tensor) -> torch.Tensor:
    return torch.sinc(x) * torch.sinc(x / LOBES)


_KERNELS: dict[Resampling, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    Resampling.BILINEAR: (_triangle, 1.0),
    Resampling.BICUBIC: (_cubic, 2.0),
    Resampling.LANCZOS: (_lanczos, float(LOBES)),
}
