"""Tables of a run file that are none, and values of other types: refused on opening, whatever digests say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from charpy.errors import ChangedError, RunFileError, SpecError
from charpy.records import SampleRow
from charpy.runfile import RunFile
from charpy.runfile.content import read_as_written
from charpy.runfile.schema import SCHEMA


@pytest.fixture
def path(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {"name": "n"}, {"a": "b"}) as run:
        run.write_samples(0, [SampleRow(0, "a", 1, None, False), SampleRow(1, "b", 1, 1, True)])
    return tmp_path / "run.charpy"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE samples SET label = 'one' WHERE sample = 1", "samples (model 0, sample 1): a value of another type"),
        ("UPDATE samples SET label = 1.5 WHERE sample = 0", "samples (model 0, sample 0): a value of another type"),
        ("UPDATE meta SET value = x'00' WHERE key = 'run_id'", "meta (key 'run_id'): a value of another type"),
        ("UPDATE meta SET key = NULL WHERE key = 'run_id'", "meta (key None): a value of another type"),
        ("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM units; END", "trigger t"),
        ("ALTER TABLE rejected RENAME TO r; CREATE VIEW rejected AS SELECT * FROM r", "rejected is no view"),
        ("DROP TABLE rejected", "rejected is not there"),
        ("ALTER TABLE rejected ADD COLUMN more AS (1)", "rejected: more is computed"),
    ],
)
def test_what_charpy_does_not_write_is_refused(path, forged, statement, found):
    with forged(path) if statement.startswith("UPDATE") else closing(sqlite3.connect(path)) as run:
        run.executescript(statement)
    with pytest.raises(ChangedError) as caught:
        RunFile.open(path)
    assert caught.value.found == found
    assert caught.value.where == str(path)


def test_a_value_that_may_be_missing_may_be(path, forged):
    with forged(path) as run:
        run.execute("UPDATE samples SET prediction = NULL, valid = 0")
    with RunFile.open(path) as run:
        assert [row.prediction for row in run.samples(0)] == [None, None]


def test_a_view_without_end_in_an_older_file_is_not_followed(path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "ALTER TABLE meta RENAME TO m; CREATE VIEW meta AS WITH RECURSIVE n(x) AS "
            "(SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT m.* FROM m, n; PRAGMA user_version = 2"
        )
    with pytest.raises(RunFileError, match="meta is no view"):
        RunFile.open(path)


def test_every_column_of_the_schema_has_a_type_that_is_looked_at():
    from charpy.runfile.content import _types

    assert {kind for columns in _types().values() for kind in columns.values()} == {
        "'integer'", "'real'", "'text'", "'blob'", "'integer', 'null'"}  # fmt: skip
    assert SCHEMA.count("CREATE TABLE") == len(_types())


@pytest.mark.parametrize("cause", [KeyError("x"), TypeError("x"), ValueError("x"), sqlite3.DatabaseError("x")])
def test_what_cannot_be_read_is_told_as_the_files_content(cause):
    with pytest.raises(RunFileError, match="does not write") as caught, read_as_written([Path("a"), Path("b")]):
        raise cause
    assert caught.value.where == "a, b"
    assert caught.value.found == f"{type(cause).__name__}: {cause}"
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("cause", [SpecError("x", where="y"), OSError("disk full"), KeyboardInterrupt()])
def test_everything_else_stays_what_it_is(cause):
    with pytest.raises(type(cause)) as caught, read_as_written([Path("a")]):
        raise cause
    assert caught.value is cause
