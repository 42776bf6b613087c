"""One writer at a time: a lock beside the run file that names its holder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RunFileError(
                "another process is writing this run",
                where=str(path),
                found=f"process {file.read().strip() or '(unknown)'}",
                hint="wait until it has ended, or give another --out",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
