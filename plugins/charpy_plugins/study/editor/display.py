"""A painting as bytes: as a page sends it, and as it is shown, a PNG at every size that is read back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image

from charpy.errors import DataError
from charpy_plugins.study.build.display import brought_back, enlarged, png, read_png
from charpy_plugins.study.document import Resampling

_MODES: Final = {1: "L", 3: "RGB"}


def rendered(image: torch.Tensor, sizes: Sequence[int], resampling: Resampling) -> dict[int, bytes]:
    """PNG bytes of `image` `(C, H, W)`, uint8, grey or RGB, by size, as `charpy study build` makes them."""
    return {size: png(enlarged(image[None], size, resampling))[0] for size in sizes}


def read_back(pages: Mapping[int, bytes], channels: int) -> torch.Tensor:
    """`(S, C, H, W)` uint8: what the PNG of each size holds, brought to the size of the model's images."""
    return torch.cat([brought_back(read_png([page], channels), size) for size, page in pages.items()])


def from_png(data: bytes, shape: tuple[int, int, int]) -> torch.Tensor:
    """The pixels `(C, H, W)`, uint8, of a PNG of exactly this shape.

    Raises:
        DataError: no PNG, one of another size, or one that is not 8-bit grey or RGB (an opaque alpha is dropped).
    """
    values = torch.from_numpy(np.array(_opened(data, shape), dtype=np.uint8))
    return values[None] if shape[0] == 1 else values.permute(2, 0, 1).contiguous()


def from_rows(data: bytes, shape: tuple[int, int, int]) -> torch.Tensor:
    """The pixels `(C, H, W)`, uint8, of the raw bytes of `(H, W, C)`: row by row, the channels of a pixel together.

    Raises:
        DataError: another number of bytes.
    """
    channels, height, width = shape
    if len(data) != channels * height * width:
        raise DataError(
            "not the bytes of this image",
            found=f"{len(data)} bytes",
            expected=f"{channels * height * width}, for {height} rows of {width} pixels of {channels} values",
        )
    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return pixels.reshape(height, width, channels).permute(2, 0, 1).contiguous()


def to_rows(pixels: torch.Tensor) -> bytes:
    """The raw bytes that `from_rows` reads."""
    return pixels.permute(1, 2, 0).contiguous().numpy().tobytes()


def _opened(data: bytes, shape: tuple[int, int, int]) -> Image.Image:
    channels, height, width = shape
    expected = f"a PNG of {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}, 8 bits"
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=["PNG"])
        if picture.size != (width, height):  # before a pixel is decoded
            raise DataError("an image of another size", found=f"{picture.width} x {picture.height}", expected=expected)
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as cause:
        raise DataError("no PNG that can be read", found=str(cause), expected=expected) from None
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    if picture.mode != _MODES[channels]:
        raise DataError("an image of another kind", found=f"mode {picture.mode}", expected=expected)
    return picture
