"""An engine for a path or a URL: durable SQLite with one writer at a time, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from charpy.errors import SpecError

WAIT = 30.0
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
    except ArgumentError as cause:
        raise SpecError("not a database URL", where="--answers", found=str(cause).split(" from ")[0]) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        expected = "the path of an SQLite file, or postgresql://user:password@host/database"
        raise SpecError("no such kind of database", where="--answers", found=url.drivername, expected=expected)
    return url


def connect(url: URL) -> Engine:
    """An engine whose commits are on disk when they return."""
    if url.drivername != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8)
    engine = create_engine(url, connect_args={"timeout": WAIT, "check_same_thread": False})
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin)
    return engine


def _durable(connection: Any, record: object) -> None:
    connection.isolation_level = None  # or the driver begins transactions of its own, too late to be the only writer
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
