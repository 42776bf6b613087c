"""What can be done to a run file, as plain data: bytes changed, rows changed by SQL, JSON in rows changed, seals set.

{"run": 0, "do": "verify", "edits": [["flip", 4711, 3], ["set", "units", "th", 2, -1]], "digests": true, "seal": "off"}
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from charpy.runfile.integrity import SEAL, seal
from charpy.runfile.schema import COLUMNS, row_digest
from fuzzing.noise import EDGES, VALUES, changed

COMMANDS = ("verify", "report", "export", "html", "compare", "resume")
BYTES = frozenset({"flip", "write", "cut", "grow", "swap", "zero", "beside"})
"""Edits that know nothing of SQLite."""

HEADER = (16, 18, 19, 20, 21, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 91, 92, 96, 100, 103, 105)
"""Where the fields of SQLite's header begin, and of its first page."""

STATEMENTS = (
    "DROP TABLE {table}", "DELETE FROM {table}", "ALTER TABLE {table} RENAME TO other", "CREATE TABLE more (x)",
    "ALTER TABLE {table} ADD COLUMN more", "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
    "CREATE VIEW v AS SELECT * FROM {table}", "DROP INDEX witnesses_of_sample", "PRAGMA user_version = 2",
    "PRAGMA user_version = 4", "PRAGMA encoding = 'UTF-16'", "PRAGMA page_size = 512",
    "PRAGMA auto_vacuum = FULL", "VACUUM",
    "CREATE UNIQUE INDEX i ON {table} (digest)", "INSERT INTO meta VALUES ('finished', 'false', x'')",
    "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = 'CREATE TABLE x (y)'",
    "PRAGMA writable_schema = 1; UPDATE sqlite_master SET rootpage = 3",
    "PRAGMA writable_schema = 1; DELETE FROM sqlite_master WHERE name = '{table}'",
    "CREATE TEMP VIEW meta AS SELECT 1", "ALTER TABLE {table} RENAME TO o; CREATE VIEW {table} AS SELECT * FROM o",
    "ALTER TABLE {table} RENAME TO o; CREATE VIEW {table} AS "
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT o.* FROM o, n",
)  # fmt: skip


MOST = 5000
"""Thousands of SQLite's steps that an edit may take."""


def applied(script: dict[str, Any], path: Path) -> None:
    """Do to the run file at `path` what the script says; what cannot be done is left out."""
    edits = [edit for edit in script.get("edits", []) if isinstance(edit, list) and edit]
    rows = [edit for edit in edits if edit[0] not in BYTES]
    if rows:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            for edit in rows:
                _bounded(db)
                with suppress(sqlite3.Error, sqlite3.Warning, ValueError, ArithmeticError, TypeError, LookupError):
                    _in_tables(db, edit)
            if script.get("digests"):
                _bounded(db)
                _renewed(db)
    if script.get("seal") in ("off", "renew"):
        with path.open("r+b") as file:
            file.seek(SEAL.start)
            file.write(bytes(SEAL.stop - SEAL.start))
        if script["seal"] == "renew":
            seal(path)
    for edit in edits:
        if edit[0] in BYTES:
            with suppress(ValueError, TypeError, LookupError, ArithmeticError):
                _in_bytes(path, edit)


def _bounded(db: sqlite3.Connection) -> None:
    """What an edit left may never end."""
    steps = count(1)
    db.set_progress_handler(lambda: next(steps) > MOST, 1000)


def only_bytes(script: dict[str, Any]) -> bool:
    """Whether nobody who knows the format had a hand in it."""
    edits = [edit for edit in script.get("edits", []) if isinstance(edit, list) and edit]
    return all(edit[0] in BYTES for edit in edits) and script.get("seal") not in ("off", "renew")


def _in_bytes(path: Path, edit: Sequence[Any]) -> None:
    data = bytearray(path.read_bytes())
    kind, at, page = edit[0], int(edit[1]) % max(len(data), 1), 4096
    match kind:
        case "flip":
            data[at] ^= 1 << int(edit[2]) % 8
        case "write":
            new = bytes.fromhex(edit[2])
            data[at : at + len(new)] = new
        case "cut":
            del data[at:]
        case "grow":
            data += bytes.fromhex(edit[2])
        case "swap":
            one, two = at // page * page, int(edit[2]) % len(data) // page * page
            data[one : one + page], data[two : two + page] = data[two : two + page], data[one : one + page]
        case "zero":
            start = at // page * page
            data[start : start + page] = bytes(len(data[start : start + page]))
        case "beside":
            suffix = ("-wal", "-journal", "-shm", ".lock")[int(edit[1]) % 4]
            path.with_name(path.name + suffix).write_bytes(bytes.fromhex(edit[2]))
            return
    path.write_bytes(data)


def _in_tables(db: sqlite3.Connection, edit: Sequence[Any]) -> None:
    kind, table = edit[0], str(edit[1])
    if kind == "sql":
        db.executescript(STATEMENTS[int(edit[2]) % len(STATEMENTS)].format(table=table))
        return
    keys = db.execute(f"SELECT {', '.join(_keys(table))} FROM {table}").fetchall()
    named = [key for key in keys if key[0] == edit[3]] if isinstance(edit[3], str) else []
    key = named[0] if named else keys[int(edit[3]) % len(keys)]
    where = " AND ".join(f"{name} IS ?" for name in _keys(table))
    column = COLUMNS[table][int(edit[2]) % len(COLUMNS[table])]
    match kind:
        case "set":
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (_stored(edit[4]), *key))
        case "json":
            text = db.execute(f"SELECT {column} FROM {table} WHERE {where}", key).fetchone()[0]
            tree = changed(json.loads(text), Random(int(edit[4])), WORDS)
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (json.dumps(tree), *key))
        case "delete":
            db.execute(f"DELETE FROM {table} WHERE {where}", key)
        case "copy":
            names = ", ".join(("digest", *COLUMNS[table])).replace(column, "?", 1)
            columns = ", ".join(("digest", *COLUMNS[table]))
            query = f"INSERT INTO {table} ({columns}) SELECT {names} FROM {table} WHERE {where}"
            db.execute(query, (_stored(edit[4]), *key))
        case "swap rows":
            other = keys[int(edit[4]) % len(keys)]
            values = [
                db.execute(f"SELECT {column} FROM {table} WHERE {where}", each).fetchone()[0] for each in (key, other)
            ]
            for value, each in zip(values[::-1], (key, other), strict=True):
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *each))


def _keys(table: str) -> tuple[str, ...]:
    from charpy.runfile.schema import KEYS

    return ("unit", "sample") if table == "witnesses" else COLUMNS[table][: KEYS[table]]


def _stored(value: Any) -> Any:
    """A value as SQLite takes it: `{"hex": ...}` is bytes, other trees are their JSON."""
    if isinstance(value, dict) and isinstance(value.get("hex"), str):
        return bytes.fromhex(value["hex"])
    return json.dumps(value) if isinstance(value, dict | list) else value


def _renewed(db: sqlite3.Connection) -> None:
    db.create_function("renewed", -1, lambda table, *row: row_digest(table, row))
    for table, columns in COLUMNS.items():
        with suppress(sqlite3.Error, ArithmeticError):
            db.execute(f"UPDATE {table} SET digest = renewed('{table}', {', '.join(columns)})")


WORDS = (
    "l0", "l1", "l2", "linf", "unrestricted", "minimal", "shape", "samples", "models", "name", "kind", "held", "broken",
    "invalid", "proven", "clean_error", "LABELS", "SCORES", "GRADIENTS", "8bit", "none", "adaptive", "static", "logits",
    "model", "probabilities", "labels", "untargeted", "targeted", "target success", "target distortion", "finished",
    "of", "queries", "goal",
)  # fmt: skip


def drawn(random: Random) -> list[Any]:
    """One edit."""
    place, table = random.choice((random.randrange(1 << 20), random.choice(HEADER))), random.choice(tuple(COLUMNS))
    column, row, seed = random.randrange(12), random.randrange(64), random.randrange(1 << 30)
    match random.randrange(16):
        case 0 | 1:
            return ["flip", place, random.randrange(8)]
        case 2 | 3:
            width = random.choice((1, 2, 4, 8))
            number = random.choice((*EDGES, random.randrange(1 << 16))) & (1 << 8 * width) - 1
            return ["write", place, number.to_bytes(width, "big").hex()]
        case 4:
            return random.choice((["cut", place], ["grow", 0, random.randbytes(random.choice((1, 512, 4096))).hex()]))
        case 5:
            return random.choice((["swap", place, random.randrange(1 << 20)], ["zero", place]))
        case 6:
            return ["beside", random.randrange(4), random.randbytes(random.choice((0, 32, 600))).hex()]
        case 7:
            return ["sql", table, random.randrange(len(STATEMENTS))]
        case 8:
            return ["delete", table, 0, row]
        case 9:
            return ["copy", table, column, row, _value(random)]
        case 10:
            return ["swap rows", table, column, row, random.randrange(64)]
        case 11 | 12 | 13:
            return random.choice((
                ["json", "meta", 1, row, seed], ["json", "meta", 1, row, seed], ["json", "units", 11, row, seed],
                ["json", "proofs", 7, row, seed], ["json", "witnesses", 8, row, seed],
            ))  # fmt: skip
        case _:
            return ["set", table, column, row, _value(random)]


def _value(random: Random) -> Any:
    plain = [value for value in VALUES if not isinstance(value, int) or abs(value) < 2**63]
    value = random.choice((*plain, *WORDS, 3, 7, 10, {"hex": "00" * 36}, {"hex": "ff" * 144}, {"hex": ""}))
    return None if isinstance(value, float) and value != value else value  # NaN is NULL in SQLite
