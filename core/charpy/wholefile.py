"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file to, which takes the place of `path` when the block ends.

    Whoever reads `path`, at whatever moment and after a crash, finds what was there before or the whole new file. Where
    the block raises, what was there before is left, and nothing beside it.

    Raises:
        OSError: it cannot be written, or not take the place.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
