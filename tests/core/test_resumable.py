"""An unfinished run whose records do not fit is not gone on with: the error names the record, and nothing is added."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.errors import RunFileError
from charpy.evaluator import evaluate
from charpy.runfile import RunFile
from charpy.runfile.integrity import seal
from charpy.runfile.schema import APPLICATION_ID, COLUMNS, SCHEMA
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel

IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2) * 10
LEVELS = [{"norm": "linf", "levels": [40, 80], "queries": 20, "battery": [{"kind": "square"}]}]
SPEC = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": LEVELS, "shard": 3}


class StopError(Exception):
    pass


def run(path, units=99):
    def listen(progress):
        if progress.done >= units:
            raise StopError

    def model():
        return LinearModel(torch.tensor([[[1.0, -0.5], [0.25, 0.0]]]), -0.2)

    labels = model().predict(torch.from_numpy(IMAGES) / 255).argmax(1).numpy()
    data = ArrayDataset(IMAGES, labels)
    evaluate(parse(RunSpec, SPEC), path, subjects=[Subject("linear", "test", model)], dataset=data, listen=listen)


@pytest.fixture
def begun(tmp_path):
    path = tmp_path / "run.charpy"
    with pytest.raises(StopError):
        run(path, units=2)
    with RunFile.open(path) as file:
        assert not file.meta("finished", False)
        assert file.units(0)
    return path


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "INSERT INTO samples SELECT 0, 6, 'more', label, prediction, valid, digest FROM samples WHERE sample = 5",
            r"samples \(model 0\).*7 samples.*6 samples",
        ),
        ("DELETE FROM samples WHERE sample = 5", "no such sample"),
        ("DELETE FROM units", "no such unit"),
        ("UPDATE results SET outcome = 'won'", "won"),
        ("UPDATE units SET detail = '[]'", r"units \(unit .*detail"),
        ("UPDATE units SET detail = '{}'", "KeyError: 'engine'"),
        ("UPDATE meta SET value = '[{}]' WHERE key = 'models'", "KeyError: 'name'"),
        ("UPDATE meta SET value = '7' WHERE key = 'models'", "TypeError"),
        ("UPDATE meta SET value = '[[1, 2]]' WHERE key = 'warnings'", "TypeError"),
        ("INSERT INTO meta VALUES ('drills', '[{\"norm\": \"l0\"}]', x'')", "KeyError: 'model'"),
        ("INSERT INTO meta VALUES ('redraws', '{\"a\": 1}', x'')", "TypeError"),
    ],
)
def test_a_run_that_does_not_fit_is_left_as_it_is(begun, forged, statement, named):
    with forged(begun) as file:
        if "warnings" in statement:
            file.execute("INSERT OR IGNORE INTO meta VALUES ('warnings', '[]', x'')")
        assert file.execute(statement).rowcount > 0
    with RunFile.open(begun) as file:
        before = file.units(0)
    with pytest.raises(RunFileError, match=f"(?s){named}") as caught:
        run(begun)
    assert str(begun) in caught.value.where
    assert "charpy verify" in caught.value.hint
    with RunFile.open(begun) as file:
        assert file.units(0) == before


def test_a_seal_is_of_a_finished_run(begun):
    seal(begun)
    with pytest.raises(RunFileError, match="sealed"):
        run(begun)


def test_one_of_an_older_schema_is_only_read(begun, tmp_path):
    older = tmp_path / "older.charpy"
    with closing(sqlite3.connect(older)) as file, closing(sqlite3.connect(begun)) as newer:
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute("PRAGMA user_version = 2")
        file.executescript(SCHEMA.replace(", digest BLOB NOT NULL", "").replace(",\n    digest BLOB NOT NULL", ""))
        for table, columns in COLUMNS.items():
            rows = newer.execute(f"SELECT {', '.join(columns)} FROM {table}")
            file.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        file.commit()
    before = older.read_bytes()
    with pytest.raises(RunFileError, match="older schema"):
        run(older)
    assert older.read_bytes() == before


def test_one_that_fits_goes_on(begun):
    run(begun)
    with RunFile.open(begun) as file:
        assert file.meta("finished")
