"""Whether a run file is what was written: the seal of a finished one, and the digest of every row.

SQLite keeps 20 bytes of its header for the future and never writes them. In a finished run they hold the digest of the
whole file without them: one changed bit anywhere is found. What was changed is then told by the rows.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from charpy.errors import ChangedError, RunFileError
from charpy.runfile.schema import COLUMNS, KEYS, row_digest

SEAL = slice(72, 92)
"""Where the digest stands in the file; all zero in a run that is not finished."""

_PIECE = 1 << 22
NAMED = 5
"""Damaged records that an error names."""


_OF_THE_PLACE = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    }
)  # fmt: skip
"""SQLite's codes for what says nothing of the content: somebody holds the file, or the disk is full or gone."""

DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError)
"""What reading a damaged file raises: SQLite's own errors, and what cannot be turned into a text or a number."""


def unreadable(path: Path, cause: Exception) -> RunFileError | None:
    """The error for a file that cannot be read where it lies; None where `cause` is about what stands in it."""
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF not in _OF_THE_PLACE:
        return None
    return RunFileError(
        "the run file cannot be read",
        where=str(path),
        found=cause,
        hint="an unfinished run is read with a log beside it: its folder needs room, and leave to write",
    )


def changed(path: Path, found: object) -> ChangedError:
    """The error for a file that is not what was written."""
    return ChangedError(
        "the run file was changed after it was written, or is damaged",
        where=str(path),
        found=found,
        hint="take it from a backup, or delete it and run the command again",
    )


def seal(path: Path) -> None:
    """Seal a finished run, which nobody has open."""
    with path.open("r+b") as file:
        file.seek(SEAL.start)
        file.write(_digest(path))
        file.flush()
        os.fsync(file.fileno())


def sealed(path: Path) -> bool:
    """Whether the file carries a seal, true or not."""
    with path.open("rb") as file:
        return any(file.read(SEAL.stop)[SEAL])


def check(path: Path, db: sqlite3.Connection) -> None:
    """Compare the file with what was written.

    Raises:
        ChangedError: it was changed or is damaged; the records that are not what was written are named.
        RunFileError: it cannot be read where it lies.
    """
    if sealed(path):
        with path.open("rb") as file:
            if file.read(SEAL.stop)[SEAL] == _digest(path):
                return
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
        damaged = [] if found != ["ok"] else list(_damaged(db))
    except DAMAGED as cause:
        if refused := unreadable(path, cause):
            raise refused from None
        found, damaged = [str(cause)], []
    if found == ["ok"] and not damaged and not sealed(path):
        return
    if found != ["ok"]:
        named = f"pages that do not hang together: {found[0]}"
    elif damaged:
        more = f", and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        named = f"other content in {', '.join(damaged[:NAMED])}{more}"
    else:
        named = "every record is as it was written, but other bytes of the file are not"
    raise changed(path, named)


def _damaged(db: sqlite3.Connection) -> Iterator[str]:
    """The table and key of each row whose digest is not its own."""
    for table, columns in COLUMNS.items():
        for *row, digest in db.execute(f"SELECT {', '.join(columns)}, digest FROM {table}"):
            if digest != row_digest(table, row):
                keys = zip(columns[: KEYS[table]], row, strict=False)
                yield f"{table} ({', '.join(f'{name} {value}' for name, value in keys)})"


def _digest(path: Path) -> bytes:
    """20 bytes over the file, its seal taken as zero."""
    whole = hashlib.blake2b(digest_size=SEAL.stop - SEAL.start)
    with path.open("rb") as file:
        head = bytearray(file.read(SEAL.stop))
        head[SEAL] = bytes(len(head[SEAL]))
        whole.update(head)
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.digest() if any(whole.digest()) else b"\1" * whole.digest_size
