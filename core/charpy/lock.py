"""One writer at a time: a lock beside the run file that names its holder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import ModuleType

from charpy.errors import RunFileError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of the run file at `path`; it goes when the process ends, however it ends.

    Raises:
        RunFileError: another process holds it, whose process id is named; or nothing can be written there.
    """
    try:
        import fcntl
    except ImportError:  # no advisory locks here: SQLite's own still keep the file whole
        yield
        return
    lock = path.with_name(path.name + ".lock")
    with _locked(fcntl, lock, path) as file:
        try:
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        except OSError as cause:
            lock.unlink(missing_ok=True)
            raise _refused(path, cause) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(fcntl: ModuleType, lock: Path, path: Path) -> FileIO:
    while True:
        try:
            file = FileIO(lock, "a+")
        except OSError as cause:
            raise _refused(path, cause) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with file:
                file.seek(0)
                raise RunFileError(
                    "another process is writing this run",
                    where=str(path),
                    found=f"process {file.read(20).decode(errors='replace').strip() or '(unknown)'}",
                    hint="wait until it has ended, or give another --out",
                ) from None
        if _is_at(file, lock):
            return file
        file.close()


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether `path` still is this file: its holder may have taken it away before it was locked here, and what nobody
    finds keeps nobody out.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _refused(path: Path, cause: OSError) -> RunFileError:
    return RunFileError(
        "the run file cannot be written", where=str(path), found=cause.strerror, hint="make room, or give another --out"
    )
