"""One run = one SQLite file: spec, identity, samples, units, results, witnesses. One writer, one transaction a unit."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from charpy.errors import IdentityError, RunFileError, line_of
from charpy.records import ProofRecord, SampleRow, UnitRecord
from charpy.runfile.audit import Audit
from charpy.runfile.content import UNREADABLE, check_tables, check_values
from charpy.runfile.integrity import DAMAGED, changed, check, seal, sealed, unreadable
from charpy.runfile.migrate import OLDER, copied
from charpy.runfile.reader import Reader
from charpy.runfile.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, put
from charpy.runfile.streams import Streams
from charpy.wholefile import replacing


class RunFile(Reader):
    """An open run file. Create with `create`, or `open` an existing one; use as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._opened = _known(path)

    @classmethod
    def create(cls, path: Path, spec: Mapping[str, Any], identity: Mapping[str, str]) -> RunFile:
        """A new run file; `path` must not exist.

        Raises:
            RunFileError: a file is there, or none can be written.
        """
        if path.exists():
            raise RunFileError("a file is there already", where=str(path), hint="resume it or give another --out")
        facts = {"spec": spec, "run_id": uuid.uuid4().hex}
        values = [(key, json.dumps(value, sort_keys=True)) for key, value in facts.items()]
        try:
            with replacing(path) as partial:  # nobody ever sees half a schema
                for stale in (path, partial):  # SQLite would replay a dead run's journal onto the new file
                    for suffix in ("", "-wal", "-shm", "-journal"):
                        stale.with_name(stale.name + suffix).unlink(missing_ok=True)
                with closing(sqlite3.connect(partial, isolation_level=None)) as new:
                    new.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    new.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    new.executescript(SCHEMA)
                    put(new, "identity", sorted(identity.items()))
                    put(new, "meta", values)
        except (OSError, sqlite3.OperationalError) as cause:
            raise RunFileError(
                "the run file cannot be written",
                where=str(path),
                found=cause,
                hint="make room, or give another --out",
            ) from None
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> RunFile:
        """An existing run file, held against its seal or, while it is not finished, against the digest of every row.

        One of an older schema is read through a copy, and cannot be written.

        Raises:
            RunFileError: no such file, not one of ours, of a schema version that is not known, changed or damaged.
        """
        if not os.path.isfile(path):  # False, too, for what no file can be called
            raise RunFileError("no such run file", where=str(path), hint="`charpy assess` or `charpy run` writes one")
        if _version(path) in OLDER:
            return cls._older(path)
        db = _connect(path)
        try:
            check_tables(path, db)
            check(path, db)
            check_values(path, db)
        except RunFileError:
            db.close()
            raise
        return cls(path, db)

    @classmethod
    def _older(cls, path: Path) -> RunFile:
        with tempfile.TemporaryDirectory(prefix="charpy-") as folder:
            copy = Path(folder) / path.name
            try:
                copied(path, copy)
                db = sqlite3.connect(":memory:", isolation_level=None)
                with closing(sqlite3.connect(copy)) as source:
                    source.backup(db)
            except UNREADABLE as cause:
                damaged = RunFileError("the run file is damaged", where=str(path), found=line_of(cause))
                raise (unreadable(path, cause) or damaged) from None
        db.execute("PRAGMA query_only = ON")
        return cls(path, db)

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything committed is on disk."""
        self._db.close()

    def seal(self) -> None:
        """Close a finished run for good: from here on every changed bit of the file is noticed.

        One that another process is reading is closed without a seal, as what was written last is not in the file
        itself yet; the digests of its rows hold it until the same command is given again.
        """
        try:
            (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.close()
            if not busy:
                seal(self.path)
        except (sqlite3.OperationalError, OSError) as cause:
            raise self._unwritable(cause) from None

    @property
    def protected(self) -> str:
        """What holds the bytes: `seal`, `rows` (the digests of the rows alone), or `nothing` (an older schema)."""
        return "nothing" if _version(self.path) in OLDER else "seal" if sealed(self.path) else "rows"

    def audit(self) -> Audit:
        """The tables, as a verification reads them."""
        return Audit(self._db)

    def streams(self) -> Streams:
        """The tables, row by row."""
        return Streams(self._db)

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def check_identity(self, identity: Mapping[str, str]) -> None:
        """Refuse to go on with a run that is about something else.

        Raises:
            IdentityError: naming each part that differs.
        """
        stored = self.identity
        differing = sorted(key for key in stored.keys() | identity.keys() if stored.get(key) != identity.get(key))
        if differing:
            changes = "; ".join(
                f"{key}: {stored.get(key, '(none)')} -> {identity.get(key, '(none)')}" for key in differing
            )
            raise IdentityError(
                "this run was started with something else and cannot be resumed",
                where=str(self.path),
                found=changes,
                hint="give another --out, or delete the whole folder to start over",
            )

    def set_meta(self, **values: Any) -> None:
        """Store JSON values, in one transaction."""
        with self._transaction():
            self._put(values)

    def _put(self, facts: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value, sort_keys=True)) for key, value in facts.items()]
        put(self._db, "meta", rows, "INSERT OR REPLACE")

    def write_samples(self, model: int, rows: Sequence[SampleRow], **facts: Any) -> None:
        """Store the clean predictions of one model, and what was learnt of the data (as `set_meta`), in one go."""
        values = [(model, r.sample, r.id, r.label, r.prediction, int(r.valid)) for r in rows]
        with self._transaction():
            put(self._db, "samples", values)
            self._put(facts)

    def write_unit(self, record: UnitRecord) -> None:
        """Store one unit whole, or not at all."""
        key = record.key
        with self._transaction():
            unit = self._next("units", "unit")
            detail = json.dumps(record.detail, sort_keys=True)
            head = (unit, *key, record.attack, record.kind, record.rows, record.seconds, detail)
            put(self._db, "units", [head])
            results = record.results
            put(
                self._db,
                "results",
                [(unit, r.sample, r.outcome, r.queries, r.queries_to_success, r.reason) for r in results],
            )
            put(
                self._db,
                "witnesses",
                [
                    (unit, key.model, w.sample, key.norm, key.th, w.distance, w.prediction, w.image,
                     json.dumps(dict(w.metrics), sort_keys=True))
                    for w in record.witnesses
                ],
            )  # fmt: skip
            put(self._db, "originals", record.originals.items(), "INSERT OR IGNORE")
            put(self._db, "rejected", [(unit, sample, reason) for sample, reason in record.rejected.items()])

    def write_proof(self, record: ProofRecord) -> None:
        """Store what one call of a certifier proved, whole or not at all."""
        with self._transaction():
            proof = self._next("proofs", "proof")
            put(self._db, "proofs", [(proof, *record.key, record.seconds, json.dumps(record.detail, sort_keys=True))])
            put(self._db, "proven", [(proof, sample, holds) for sample, holds in record.proven.items()])

    def _next(self, table: str, key: str) -> int:
        return int(self._db.execute(f"SELECT COALESCE(MAX({key}), 0) + 1 FROM {table}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if (now := _known(self.path)) != self._opened:
            raise RunFileError(
                "the run file can no longer be written",
                where=str(self.path),
                found="it was deleted or replaced" if now[0] == self._opened[0] else "this is a fork of its writer",
                hint="leave it alone while it is written; the same command goes on, or starts over",
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as cause:
            raise self._unwritable(cause) from None

    def _unwritable(self, cause: Exception) -> RunFileError:
        return RunFileError(
            "the run file cannot be written",
            where=str(self.path),
            found=cause,
            hint="what was written before is whole: make room, or free it, and the same command goes on",
        )


def _known(path: Path) -> tuple[int, ...]:
    """This process, and the file that the path means now: what is not the same any more must not be written."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (os.getpid(),)
    return os.getpid(), found.st_dev, found.st_ino


def _version(path: Path) -> int:
    """The schema version; what is not ours is refused by its first bytes, before SQLite may touch it."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(b"SQLite format 3\0"):
        raise RunFileError("not a charpy run file", where=str(path), found=header[:16], hint="give a run.charpy")
    application, version = int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")
    if application != APPLICATION_ID:
        raise RunFileError("not a charpy run file", where=str(path), found="another SQLite file")
    if version != SCHEMA_VERSION and version not in OLDER:
        raise RunFileError(
            "run file of another schema version",
            where=str(path),
            found=f"version {version}",
            expected=f"version {SCHEMA_VERSION}",
            hint="use the charpy version that wrote it",
        )
    return version


def _connect(path: Path) -> sqlite3.Connection:
    try:
        if sealed(path):  # nobody writes it any more: no files beside it, and it may lie where nothing can be written
            address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            return sqlite3.connect(address, uri=True, isolation_level=None)
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except DAMAGED as cause:
        raise (unreadable(path, cause) or changed(path, cause)) from None
    return connection
