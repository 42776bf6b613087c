"""The tables of a run file. Every row carries the digest of what stands in it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

SCHEMA_VERSION = 3
APPLICATION_ID = 0x43685079  # "ChPy": how a run file is told from any other SQLite file

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE identity (key TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE samples (model INTEGER, sample INTEGER, id TEXT NOT NULL, label INTEGER NOT NULL,
    prediction INTEGER, valid INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (model, sample)) WITHOUT ROWID;
CREATE TABLE originals (sample INTEGER PRIMARY KEY, image BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE units (unit INTEGER PRIMARY KEY, model INTEGER NOT NULL, norm TEXT NOT NULL, th INTEGER NOT NULL,
    step INTEGER NOT NULL, shard INTEGER NOT NULL, round INTEGER NOT NULL, attack TEXT NOT NULL, kind TEXT NOT NULL,
    rows INTEGER NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL, digest BLOB NOT NULL,
    UNIQUE (model, norm, th, step, shard, round));
CREATE TABLE results (unit INTEGER NOT NULL REFERENCES units, sample INTEGER NOT NULL, outcome TEXT NOT NULL,
    queries INTEGER NOT NULL, queries_to_success INTEGER, reason TEXT NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (unit, sample)) WITHOUT ROWID;
CREATE TABLE witnesses (unit INTEGER NOT NULL REFERENCES units, model INTEGER NOT NULL, sample INTEGER NOT NULL,
    norm TEXT NOT NULL, th INTEGER NOT NULL, distance REAL NOT NULL, prediction INTEGER NOT NULL,
    image BLOB NOT NULL, metrics TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (unit, sample)) WITHOUT ROWID;
CREATE INDEX witnesses_of_sample ON witnesses (model, norm, sample, distance);
CREATE TABLE proofs (proof INTEGER PRIMARY KEY, model INTEGER NOT NULL, norm TEXT NOT NULL, th INTEGER NOT NULL,
    certifier TEXT NOT NULL, first INTEGER NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL,
    digest BLOB NOT NULL, UNIQUE (model, norm, th, certifier, first));
CREATE TABLE proven (proof INTEGER NOT NULL REFERENCES proofs, sample INTEGER NOT NULL, holds INTEGER NOT NULL,
    digest BLOB NOT NULL, PRIMARY KEY (proof, sample)) WITHOUT ROWID;
CREATE TABLE rejected (unit INTEGER NOT NULL REFERENCES units, sample INTEGER NOT NULL, reason TEXT NOT NULL,
    digest BLOB NOT NULL, PRIMARY KEY (unit, sample)) WITHOUT ROWID;
"""

COLUMNS = {
    "meta": ("key", "value"),
    "identity": ("key", "value"),
    "samples": ("model", "sample", "id", "label", "prediction", "valid"),
    "originals": ("sample", "image"),
    "units": (
        "unit", "model", "norm", "th", "step", "shard", "round", "attack", "kind", "rows", "seconds", "detail",
    ),
    "results": ("unit", "sample", "outcome", "queries", "queries_to_success", "reason"),
    "witnesses": ("unit", "model", "sample", "norm", "th", "distance", "prediction", "image", "metrics"),
    "proofs": ("proof", "model", "norm", "th", "certifier", "first", "seconds", "detail"),
    "proven": ("proof", "sample", "holds"),
    "rejected": ("unit", "sample", "reason"),
}  # fmt: skip
"""Of each table, the columns that its digest is of, in order; parents before children."""

KEYS = {
    "meta": 1, "identity": 1, "samples": 2, "originals": 1, "units": 1, "results": 2, "witnesses": 3, "proofs": 1,
    "proven": 2, "rejected": 2,
}  # fmt: skip
"""How many of the first columns say which row it is."""

_REAL = frozenset({"seconds", "distance"})


def row_digest(table: str, row: Sequence[Any]) -> bytes:
    """16 bytes over what stands in a row, as SQLite gives it back."""
    return hashlib.blake2b(repr((table, *row)).encode("utf-8", errors="surrogatepass"), digest_size=16).digest()


def put(db: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]], verb: str = "INSERT") -> None:
    """Write rows with their digests; `verb` may be `INSERT OR REPLACE` or `INSERT OR IGNORE`."""
    columns = COLUMNS[table]
    marks = ", ".join("?" * (len(columns) + 1))
    statement = f"{verb} INTO {table} ({', '.join(columns)}, digest) VALUES ({marks})"
    db.executemany(statement, ((*row, row_digest(table, row)) for row in (_stored(columns, row) for row in rows)))


def _stored(columns: Sequence[str], row: Sequence[Any]) -> tuple[Any, ...]:
    """The values as they come back: REAL columns give floats, and an outcome is its text."""
    return tuple(
        value if value is None or isinstance(value, bytes)
        else float(value) if name in _REAL
        else str(value) if isinstance(value, str)
        else int(value)
        for name, value in zip(columns, row, strict=True)
    )  # fmt: skip
