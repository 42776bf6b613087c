"""A run file of an older schema, read through a copy; the file itself is never touched."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from charpy.runfile.content import check_tables, check_values
from charpy.runfile.schema import APPLICATION_ID, COLUMNS, SCHEMA, SCHEMA_VERSION, put

OLDER = frozenset({2})
"""Versions that can be read: 2 had no digests and no seal."""


def copied(path: Path, copy: Path) -> None:
    """Write the content of the older file at `path` into a new one of this schema at `copy`.

    Raises:
        ChangedError: its tables are not those of a run file.
    """
    source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        check_tables(path, source)
        check_values(path, source)
        target.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        target.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        target.executescript(SCHEMA)
        target.execute("BEGIN")
        for table, columns in COLUMNS.items():
            put(target, table, source.execute(f"SELECT {', '.join(columns)} FROM {table}"))
        target.execute("COMMIT")
    finally:
        source.close()
        target.close()
