"""PNG files of one length each size: adversarial noise compresses worse, and a length can be seen from outside.

The file is filled up by an ancillary, private chunk before its end, which every reader passes over (PNG specification,
sections 4.7.2 and 5.4: a lower-case first letter says ancillary, a lower-case second one private).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

_CHUNK: Final = b"fiLl"
_EMPTY: Final = 12
"""Bytes of a chunk without content: its length, its name and its checksum."""

_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


def lengths(images: Mapping[tuple[str, int], bytes]) -> dict[int, int]:
    """Size -> how long every file of it becomes: as the longest with an empty chunk."""
    longest: dict[int, int] = {}
    for (_, size), data in images.items():
        longest[size] = max(longest.get(size, 0), len(data) + _EMPTY)
    return longest


def padded(data: bytes, length: int) -> bytes:
    """The same picture in `length` bytes, at least 12 more than it has; what does not end as a PNG is left alone."""
    if not data.endswith(_END):
        return data
    content = bytes(length - len(data) - _EMPTY)
    chunk = len(content).to_bytes(4) + _CHUNK + content + zlib.crc32(_CHUNK + content).to_bytes(4)
    return data[: -len(_END)] + chunk + _END
