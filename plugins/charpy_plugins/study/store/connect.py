"""An engine for a path or a URL: durable SQLite with one writer at a time, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from charpy.errors import SpecError

WAIT = 30
"""Seconds that a writer waits for another one."""

READING = "charpy_reading"
"""Execution option of a connection that only reads: in SQLite it need not wait for the writer."""


def address(answers: str | Path) -> URL:
    """The URL of a database; what has no `://` is the path of an SQLite file.

    Raises:
        SpecError: a URL of another kind of database.
    """
    text = str(answers)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # what was given is not repeated: it may hold a password
        expected = "postgresql://user:password@host/database"
        raise SpecError("not a database URL", where="--answers", expected=expected) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg") or url.database in (None, "", ":memory:"):
        expected = "the path of an SQLite file, or postgresql://user:password@host/database"
        raise SpecError("no such kind of database", where="--answers", found=url.drivername, expected=expected)
    return url


def connect(url: URL) -> Engine:
    """An engine whose commits are on disk when they return.

    Raises:
        SpecError: PostgreSQL's driver is not installed.
    """
    if url.drivername != "sqlite":
        try:
            # Each statement sees what was committed before it; a writer waits for the one before, see `Store`.
            engine = create_engine(
                url, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_size=8, max_overflow=8
            )
        except ModuleNotFoundError as cause:
            hint = "pip install 'charpy[study,postgresql]'"
            raise SpecError("PostgreSQL needs a driver", where="--answers", found=str(cause), hint=hint) from None
        event.listen(engine, "connect", _acknowledged)
        return engine
    engine = create_engine(url, connect_args={"timeout": WAIT, "check_same_thread": False})
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin)
    return engine


def _acknowledged(connection: Any, record: object) -> None:
    for setting in ("synchronous_commit = on", f"lock_timeout = '{WAIT}s'"):  # whatever the cluster's defaults are
        connection.execute(f"SET {setting}")
    connection.commit()


def _durable(connection: Any, record: object) -> None:
    connection.isolation_level = None  # or the driver begins transactions of its own, too late to be the only writer
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
