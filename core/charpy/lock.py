"""One writer at a time: a lock beside the run file that names its holder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from charpy.errors import RunFileError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of the run file at `path`; it goes when the process ends, however it ends.

    Raises:
        RunFileError: another process holds it; its process id is named.
    """
    try:
        import fcntl
    except ImportError:  # no advisory locks here: SQLite's own still keep the file whole
        yield
        return
    lock = path.with_name(path.name + ".lock")
    held = False
    while not held:
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with file:
                file.seek(0)
                raise RunFileError(
                    "another process is writing this run",
                    where=str(path),
                    found=f"process {file.read().strip() or '(unknown)'}",
                    hint="wait until it has ended, or give another --out",
                ) from None
        held = _is_at(file, lock)
        if not held:
            file.close()
    with file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether `path` still is this file: its holder may have taken it away before it was locked here, and what nobody
    finds keeps nobody out.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
