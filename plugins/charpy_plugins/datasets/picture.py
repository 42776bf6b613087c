"""One picture file: what its header says, what is refused before decoding, and how it becomes pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from charpy.errors import CharpyError, DataError, UnsafeFileError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""What is decoded, told by content. Formats that run programs or reach for other files (EPS, ...) are not."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpg", ".jpeg", ".png", ".webp"})

MOST_PIXELS = 4096 * 4096
"""A larger picture is refused before it is decoded."""

MODES = {"1": 1, "L": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3}
"""Pillow's modes that are read, with the number of channels that they become."""

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)


class Header(NamedTuple):
    """A picture as its header describes it; `size` is `(H, W)` after rotation, `oddities` are the policies it needs."""

    size: tuple[int, int]
    channels: int
    oddities: tuple[str, ...]


def read_header(path: Path) -> Header:
    """What the header of `path` says; no pixel is decoded.

    Raises:
        UnsafeFileError: more than `MOST_PIXELS` pixels.
        DataError: no picture, or one that cannot become 8-bit grey or RGB without a choice: animated, 16-bit or
            float, CMYK or another colour space.
    """
    with _opened(path) as image:
        _refuse(image, path)
        turn = image.getexif().get(_ORIENTATION, 1)
        width, height = image.size
        return Header(
            size=(width, height) if turn in _TURNED else (height, width),
            channels=MODES[image.mode],
            oddities=tuple(_oddities(image, turn)),
        )


def read_pixels(path: Path, channels: int, resize: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The picture as uint8 `(C, H, W)`, decoded under the policy of `datasets/folder.py`.

    Raises:
        DataError: as `read_header`; also a truncated or damaged file, or one that is not opaque.
    """
    with _opened(path) as image:
        _refuse(image, path)
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            lowest = upright.getchannel("A").getextrema()[0]
            if lowest != 255:
                raise DataError(
                    "picture is not opaque",
                    where=str(path),
                    found=f"alpha down to {lowest}",
                    expected="alpha 255 everywhere",
                    hint="flatten it onto the background that the model is to see",
                )
        grey = upright.convert("RGB").convert("L") if upright.mode not in ("1", "L") else upright.convert("L")
        flat = grey if channels == 1 else upright.convert("RGB")
        if resize is not None and flat.size != resize[::-1]:
            flat = flat.resize(resize[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(flat, np.uint8)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The open picture; whatever Pillow makes of a hostile file becomes one of our errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap is lower
            image = Image.open(path, formats=FORMATS)
        with image:
            yield image
    except Image.DecompressionBombError as cause:
        raise _too_large(path, str(cause)) from None
    except CharpyError:
        raise
    except Exception as cause:  # noqa: BLE001 - Pillow's have no common base: assertions, missing attributes and others
        raise _unreadable(path, cause) from None


def _refuse(image: ImageFile.ImageFile, path: Path) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width} x {height} pixels")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(
            "picture is animated", where=str(path), found=f"{frames} frames", expected="one", hint="save single frames"
        )
    if image.mode not in MODES or ";16" in str(image.tile):
        raise DataError(
            "picture is not 8-bit grey or RGB",
            where=str(path),
            found=f"{image.format}, mode {image.mode}" + (", 16 bit" if ";16" in str(image.tile) else ""),
            expected=f"one of the modes {', '.join(MODES)} with 8 bits",
            hint="convert it to 8-bit RGB in the way that the model's training data was",
        )


def _oddities(image: ImageFile.ImageFile, turn: int) -> Iterator[str]:
    if image.format in ("JPEG", "WEBP"):
        yield f"are {image.format}, whose decoded pixels may depend on the decoder's version"
    if image.mode in ("P", "PA"):
        yield "have a palette, which was expanded to RGB"
    if image.mode == "1":
        yield "are black and white (1 bit), read as 0 and 255"
    if image.has_transparency_data:
        yield "have an alpha channel; it must be opaque, and was dropped"
    if turn not in (0, 1):
        yield "carry an EXIF orientation, which was applied"
    if "icc_profile" in image.info:
        yield "carry a colour profile, which was ignored"


def _too_large(path: Path, found: str) -> UnsafeFileError:
    return UnsafeFileError(
        "picture is too large",
        where=str(path),
        found=found,
        expected=f"at most {MOST_PIXELS} pixels",
        hint="make it smaller, or cut it into pieces",
    )


def _unreadable(path: Path, cause: BaseException) -> DataError:
    return DataError(
        "picture is damaged, or none that is read here",
        where=str(path),
        found=f"{type(cause).__name__}: {cause}",
        expected=f"a whole {', '.join(FORMATS)} file",
        hint="fetch it again, convert it, or take it out of the folder",
    )
