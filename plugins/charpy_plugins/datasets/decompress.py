"""Plain, gzip and xz files read to an exact size: a decompression bomb is refused before it unfolds."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from charpy.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_RATIO = 100
"""A file that unfolds to more than this many times its size is refused as a bomb."""

SMALL = 1 << 20
"""... unless it unfolds to less than this many bytes: sorted labels compress well."""

LARGEST = 4 << 30
"""Most bytes that one file may unfold to."""

XZ_MEMORY = 256 << 20
"""Most memory that an xz decoder may ask for (xz -9 needs 65 MiB)."""

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The decompressed content of `path`; the format is told by content, not by name.

    Raises:
        DataError: the file cannot be read, or ends or breaks off in the middle of its compressed data.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            if start.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as inner:
                    yield cast(BinaryIO, inner)
            elif start == _XZ:
                yield cast(BinaryIO, io.BufferedReader(_XzReader(file)))
            else:
                yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as cause:
        raise DataError(
            "file cannot be read",
            where=str(path),
            found=f"{type(cause).__name__}: {cause}",
            hint="fetch the file again from where it came, or write it again",
        ) from None


def refuse_bomb(size: int, path: Path, *, small: int = SMALL, packed: int | None = None) -> None:
    """Refuse `path` if it is to unfold from `packed` bytes (its own size if not given) to far more.

    Raises:
        UnsafeFileError: more than `LARGEST`, or more than `small` and more than `MOST_RATIO` times as much.
    """
    packed = path.stat().st_size if packed is None else packed
    if size > LARGEST or (size > small and size > MOST_RATIO * packed):
        raise UnsafeFileError(
            "file looks like a decompression bomb",
            where=str(path),
            found=f"{packed} bytes that unfold to {size}",
            expected=f"at most {LARGEST} bytes, and at most {MOST_RATIO} times its size",
            hint="if the data is real, store it uncompressed",
        )


def read_exactly(stream: BinaryIO, size: int, path: Path) -> NDArray[np.uint8]:
    """The next `size` bytes, which must be the last ones of `stream`.

    Raises:
        DataError: the stream is shorter or longer.
    """
    content = np.empty(size, np.uint8)
    view, filled = content.data, 0
    while filled < size and (count := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
        filled += count
    if filled < size or stream.read(1):
        found = f"{filled} bytes" if filled < size else f"more than {size} bytes"
        raise DataError(
            "file has the wrong length",
            where=str(path),
            found=found,
            expected=f"{size} bytes",
            hint="fetch the file again from where it came, or write it again",
        )
    return content


class _XzReader(io.RawIOBase):
    """An xz stream, decoded as it is read, with a limit on the decoder's memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._decoder.eof:
            packed = self._file.read(1 << 16) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not packed:
                raise EOFError("compressed data ends before the end-of-stream marker")
            if piece := self._decoder.decompress(packed, len(view)):
                view[: len(piece)] = piece
                return len(piece)
        return 0
