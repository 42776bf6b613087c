"""Whether the tables of a run file are tables, and whether what stands in them can be read as charpy writes it.

Digests and seal show that the bytes are those that somebody wrote. They do not show that it was charpy: whoever forges
can compute them. SQLite lets a view stand under the name of a table, with a query behind it that never ends, and takes
any value into any column.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

from charpy.errors import CharpyError, RunFileError, line_of
from charpy.runfile.integrity import DAMAGED, changed
from charpy.runfile.schema import COLUMNS, KEYS, SCHEMA

UNREADABLE = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
    sqlite3.Error,
)
"""What readers of tables and JSON raise where something else stands than they expect."""


def check_tables(path: Path, db: sqlite3.Connection) -> None:
    """Look at the tables of an open run file, before anything is read from them. Damage is left to `integrity`.

    Raises:
        ChangedError: a table is none, computes its values, or does more than hold them.
    """
    with suppress(*DAMAGED):
        _refuse(next(_strange_tables(db), ""), path)


def check_values(path: Path, db: sqlite3.Connection) -> None:
    """Look at the type of every value in tables that are tables.

    Raises:
        ChangedError: a value is of another type than its column, or cannot be read.
    """
    try:
        found = next(_strange_values(db), "")
    except DAMAGED as cause:
        found = str(cause)
    _refuse(found, path)


def _refuse(found: str, path: Path) -> None:
    if found:
        raise changed(path, found)


@contextmanager
def read_as_written(paths: Iterable[Path]) -> Iterator[None]:
    """Whatever fails in the block for what stands in the run files at `paths`, as an error of ours that says where.

    Raises:
        RunFileError: they hold what charpy does not write.
    """
    named = ", ".join(map(str, paths))
    try:
        yield
    except CharpyError as cause:
        if cause.where:
            raise
        raise cause.at(named) from None
    except UNREADABLE as cause:
        raise RunFileError(
            "the run file holds what charpy does not write",
            where=named,
            found=line_of(cause),
            hint="`charpy verify RUN` looks at every record; if all agree, report this as a defect of charpy",
        ) from cause


def _strange_tables(db: sqlite3.Connection) -> Iterator[str]:
    kinds = dict(db.execute("SELECT name, CASE WHEN rootpage THEN type ELSE 'no ' || type END FROM sqlite_master"))
    yield from (f"trigger {name}" for name, kind in kinds.items() if kind.endswith("trigger"))
    computed = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_xinfo(t.name) c WHERE c.hidden"
    yield from (f"{table}: {column} is computed" for table, column in db.execute(computed))
    yield from (f"{table} is {kinds.get(table, 'not there')}" for table in COLUMNS if kinds.get(table) != "table")


def _strange_values(db: sqlite3.Connection) -> Iterator[str]:
    for table, columns in COLUMNS.items():
        keys = ", ".join(columns[: KEYS[table]])
        other = " OR ".join(f"typeof({name}) NOT IN ({types})" for name, types in _types()[table].items())
        for row in db.execute(f"SELECT {keys} FROM {table} WHERE {other}"):
            named = ", ".join(f"{name} {value!r:.40}" for name, value in zip(columns, row, strict=False))
            yield f"{table} ({named}): a value of another type"


@cache
def _types() -> dict[str, dict[str, str]]:
    """Of each column the types that its values may have, for SQL."""
    found: dict[str, dict[str, str]] = {}
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        for table, columns in COLUMNS.items():
            info = {row[1]: row for row in fresh.execute(f"PRAGMA table_info({table})")}
            found[table] = {
                name: f"'{info[name][2].lower()}'" + ("" if info[name][3] or info[name][5] else ", 'null'")
                for name in columns
            }
    return found
