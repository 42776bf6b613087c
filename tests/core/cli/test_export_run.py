"""`charpy export RUN`: every cell against the run file, images that read back, names that do no harm."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from charpy.outcome import Outcome
from charpy.pixels import unpack
from charpy.records import ResultRow, SampleRow, UnitKey, UnitRecord, WitnessRow
from charpy.runfile import RunFile
from charpy.threat import Grid

TABLES = ("samples", "results", "witnesses", "units", "proofs")


def rows_of(path) -> list[dict[str, str]]:
    data = path.read_bytes()
    assert b"\r" not in data
    return list(csv.DictReader(io.StringIO(data.decode("utf-8")), strict=True))


def query(path, text):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(text).fetchall()


def tree(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    from charpy.cli.app import run_program

    out = tmp_path_factory.mktemp("exported") / "out"
    assert run_program(["export", str(finished), "--format", "csv,png", "--out", str(out)]) == 0
    return out


def test_the_tables_are_those_of_the_run_file(exported, finished):
    run = finished / "run.charpy"
    found = {name: rows_of(exported / f"{name}.csv") for name in TABLES}
    expected = query(
        run,
        "SELECT r.unit, u.norm, u.th, u.attack, s.id, r.outcome, r.queries, r.queries_to_success FROM results r "
        "JOIN units u ON u.unit = r.unit JOIN samples s ON s.sample = r.sample ORDER BY r.unit, r.sample",
    )
    columns = ("unit", "norm", "th", "attack", "id", "outcome", "queries", "queries_to_success")
    assert [tuple(row[name] for name in columns) for row in found["results"]] == [
        tuple("" if value is None else str(value) for value in row) for row in expected
    ]
    expected = query(run, "SELECT unit, sample, distance, prediction, metrics FROM witnesses ORDER BY unit, sample")
    assert len(found["witnesses"]) == len(expected) > 2
    for row, (unit, sample, distance, prediction, metrics) in zip(found["witnesses"], expected, strict=True):
        assert (int(row["unit"]), int(row["sample"]), int(row["prediction"])) == (unit, sample, prediction)
        assert float(row["distance"]) == distance
        for kind, value in json.loads(metrics).items():
            assert float(row[f"metric_{kind}"]) == pytest.approx(value, rel=1e-9)
    assert [row["correct"] for row in found["samples"]] == [
        "yes" if label == prediction else "no"
        for label, prediction in query(run, "SELECT label, prediction FROM samples ORDER BY sample")
    ]
    for row in found["units"]:
        mine = [one for one in found["results"] if one["unit"] == row["unit"]]
        assert int(row["attacked"]) == len(mine)
        for outcome in ("broken", "held", "invalid"):
            assert int(row[outcome]) == sum(one["outcome"] == outcome for one in mine)
        assert int(row["queries"]) == sum(int(one["queries"]) for one in mine)
    assert not found["proofs"]


KINDS = {"text": str, "whole": int, "number": float, "yes or no": bool}


@pytest.mark.parametrize("of", ["finished", "hostile"])
def test_every_value_is_of_the_type_that_its_column_promises(of, request, tmp_path):
    from charpy.reports.exported.images import manifest
    from charpy.reports.exported.tables import Names, tables

    path = hostile(tmp_path / "run.charpy") if of == "hostile" else request.getfixturevalue("finished") / "run.charpy"
    with RunFile.open(path) as run:
        names = Names(run)
        for table in [*tables(run, names), manifest(run, names, tmp_path / "images")]:
            seen = 0
            for row in table.rows:
                for column in table.columns:
                    value = column.value(row)
                    assert value is None or type(value) is KINDS[column.kind], (table.name, column.name, value)
                    assert value is not None or column.missing != "never", (table.name, column.name)
                seen += 1
            assert seen or table.name == "proofs"


def test_every_column_is_in_the_code_book(exported):
    book = (exported / "codebook.md").read_text(encoding="utf-8")
    for name in (*TABLES, "manifest"):
        part = book.split(f"## {name}\n")[1].split("\n## ")[0]
        head = (exported / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        for column in head:
            assert f"| `{column}` |" in part
        assert part.count("\n| `") == len(head)


def test_images_read_back_are_the_stored_bytes(exported, finished):
    rows = rows_of(exported / "manifest.csv")
    kinds = [row["image"] for row in rows]
    assert kinds.count("witness") == query(finished / "run.charpy", "SELECT COUNT(*) FROM witnesses")[0][0]
    assert kinds.count("original") == query(finished / "run.charpy", "SELECT COUNT(*) FROM originals")[0][0]
    assert len({row["file"].lower() for row in rows}) == len(rows)
    with RunFile.open(finished / "run.charpy") as run:
        for row in rows:
            sample = int(row["sample"])
            if row["image"] == "original":
                stored = run.original(sample)
                assert row["file"].startswith(f"originals/{row['label_name']}/{sample:06}_digits-")
            else:
                stored = next(
                    one.image for one in run.witnesses(0, row["norm"], sample=sample)
                    if (one.attack, one.th) == (row["attack"], int(row["th"]))
                )  # fmt: skip
                assert row["file"].startswith(f"witnesses/digits-cnn/{row['norm']}/{row['attack']}/{sample:06}_digits-")
            read = np.asarray(Image.open(exported / row["file"]))
            np.testing.assert_array_equal(read, unpack(stored, (1, 8, 8), Grid.EIGHT_BIT)[0].numpy())
            assert row["note"] == ""
    assert {str(path.relative_to(exported)) for path in exported.rglob("*.png")} == {row["file"] for row in rows}


def test_the_same_run_gives_the_same_bytes(charpy, exported, finished, tmp_path):
    assert charpy("export", finished / "run.charpy", "--format", "png,csv", "--out", "again").code == 0
    assert tree(tmp_path / "again") == tree(exported)


def test_what_it_prints_and_where_it_writes_by_itself(charpy, finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    done = charpy("export", "copy")
    assert done.code == 0
    paths = [line.strip() for line in done.out.splitlines()]
    assert paths == sorted(f"copy/export/{name}" for name in ("codebook.md", *(f"{table}.csv" for table in TABLES)))
    assert "charpy: witnesses" in done.err


def test_what_is_there_is_not_touched(charpy, finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    done = charpy("export", finished, "--out", "mine")
    assert done.code == 2
    assert "something is there already" in done.err
    assert tree(tmp_path) == {"mine/thesis.txt": hashlib.sha256(b"all of it").hexdigest()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "xls"), "unknown format"),
        (("--format", ","), "no format given"),
        (("out.onnx",), "a run is exported into a folder"),
    ],
)
def test_what_is_refused_leaves_nothing(charpy, finished, tmp_path, arguments, said):
    done = charpy("export", finished, *arguments, *(() if "out.onnx" in arguments else ("--out", "o")))
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


def test_a_model_has_no_formats_and_needs_a_file(charpy):
    assert "only a run has formats" in charpy("export", "digits-cnn", "--format", "csv").err
    assert "no file to write to" in charpy("export", "digits-cnn").err
    assert "no such run file" in charpy("export", "nowhere.charpy").err


def test_a_missing_pyarrow_is_named(charpy, finished, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = charpy("export", finished, "--format", "csv,parquet", "--out", "out")
    assert done.code == 2
    assert "pip install 'charpy[data]'" in done.err
    assert not list(tmp_path.iterdir())


def test_parquet_holds_what_csv_holds_with_types(charpy, finished, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert charpy("export", finished, "--format", "csv,parquet", "--out", "out").code == 0
    for name in TABLES:
        texts, table = (
            rows_of(tmp_path / "out" / f"{name}.csv"),
            parquet.read_table(tmp_path / "out" / f"{name}.parquet"),
        )
        assert table.num_rows == len(texts)
        for row, text in zip(table.to_pylist(), texts, strict=True):
            assert list(row) == list(text)
            for column, value in row.items():
                if isinstance(value, bool):
                    assert text[column] == ("yes" if value else "no")
                elif isinstance(value, int):
                    assert text[column] == str(value)
                elif isinstance(value, float):
                    assert float(text[column]) == pytest.approx(value, rel=1e-9)
                elif value is not None:
                    assert text[column].removeprefix("'") == value
                else:
                    assert text[column] == ""


HOSTILE = "=cmd|' /C calc'!A0"
NAMES = (HOSTILE, "../../up", "a/b", "a\\b", "A-b", "con", "\x1b[31m\u202e", "")


def hostile(path, grid="8bit", shape=(3, 4, 5), samples=8, units=1):
    """A run file full of names that want to be something else."""
    rng = np.random.default_rng(0)
    dataset = {"name": "x", "shape": list(shape), "class_names": list(NAMES), "samples": samples, "fingerprint": "f"}
    spec = {"grid": grid, "metrics": [], "models": [{"name": HOSTILE}]}

    def image(k) -> bytes:
        import torch

        from charpy.pixels import pack

        values = rng.integers(0, 256, shape).astype(np.uint8)
        floats = torch.from_numpy(values.astype(np.float32) / 255) + (1e-4 if k % 2 else 0)
        return pack(torch.from_numpy(values) if grid == "8bit" else floats, Grid(grid))

    with RunFile.create(path, spec, {}) as run:
        run.set_meta(models=[{"name": HOSTILE}], dataset=dataset)
        run.write_samples(0, [SampleRow(s, NAMES[s % 8] + str(s // 8), s % 8, 0, True) for s in range(samples)])
        for unit in range(units):
            names = range(samples)
            run.write_unit(
                UnitRecord(
                    UnitKey(0, "linf", unit + 1, 0, 0), HOSTILE, "@kind", 1, 0.5, {"failure": "-1+1\n=2"},
                    [ResultRow(s, Outcome.BROKEN, 1, 1, "+1") for s in names],
                    [WitnessRow(s, 2.5, 0, image(s), {"l2": -0.5}) for s in names],
                    {s: image(s) for s in names},
                )
            )  # fmt: skip
    return path


def test_hostile_names_are_inert_in_cells_and_in_paths(charpy, tmp_path):
    hostile(tmp_path / "run.charpy", units=2)
    assert charpy("export", "run.charpy", "--format", "csv,png", "--out", "deep/out").code == 0
    for name in (*TABLES, "manifest"):
        for row in rows_of(tmp_path / "deep" / "out" / f"{name}.csv"):
            for column, text in row.items():
                assert text[:1] not in {"=", "@", "+", "\t", "\r"}
                assert text[:1] != "-" or column.startswith("metric_")  # a number
                assert text.isprintable()
                assert "\u202e" not in text
    rows = rows_of(tmp_path / "deep" / "out" / "manifest.csv")
    assert len({row["file"].lower() for row in rows}) == len(rows) == 8 + 16
    folders = {row["file"].split("/")[1] for row in rows if row["image"] == "original"}
    assert len({name.lower() for name in folders}) == 8
    assert not folders & {"con", "..", "."}
    assert {path.name for path in tmp_path.iterdir()} == {"run.charpy", "deep"} | {
        path.name for path in tmp_path.iterdir() if path.name.startswith("run.charpy-")
    }
    assert any(row["file"].endswith("-th2.png") for row in rows)
    for row in rows:
        assert np.asarray(Image.open(tmp_path / "deep" / "out" / row["file"])).shape == (4, 5, 3)


@pytest.mark.parametrize(("grid", "shape"), [("none", (3, 4, 5)), ("8bit", (2, 4, 5))])
def test_what_no_png_can_hold_is_an_array_with_a_note(charpy, tmp_path, grid, shape):
    hostile(tmp_path / "run.charpy", grid=grid, shape=shape)
    assert charpy("export", "run.charpy", "--format", "png", "--out", "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "codebook.md", "manifest.csv", "originals", "witnesses",
    ]  # fmt: skip
    with RunFile.open(tmp_path / "run.charpy") as run:
        stored = {one.sample: one.image for one in run.witnesses(0)}
    arrays = 0
    for row in rows_of(tmp_path / "out" / "manifest.csv"):
        if row["image"] == "original":
            continue
        expected = unpack(stored[int(row["sample"])], shape, Grid(grid)).numpy()
        path = tmp_path / "out" / row["file"]
        if path.suffix == ".png":
            read = np.asarray(Image.open(path)).transpose(2, 0, 1)
            np.testing.assert_array_equal(read.astype(np.float32) / np.float32(255), expected)
            assert row["note"] == ""
            continue
        arrays += 1
        assert row["note"]
        read = np.load(path, allow_pickle=False)
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)
    assert arrays == (4 if grid == "none" else 8)


def test_an_unfinished_run_is_exported_and_said_to_be_one(charpy, tmp_path):
    hostile(tmp_path / "run.charpy")
    assert charpy("export", "run.charpy", "--out", "out").code == 0
    assert "NOT finished" in (tmp_path / "out" / "codebook.md").read_text(encoding="utf-8")


MEASURE = """
import resource, sys
from pathlib import Path
from charpy.reports.exported.export import export_run
from charpy.runfile import RunFile
with RunFile.open(Path(sys.argv[1])) as run:
    export_run(run, ["csv", "png"], Path(sys.argv[2]), lambda name: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(tmp_path):
    def peak(units: int) -> int:
        path = hostile(tmp_path / f"{units}.charpy", shape=(3, 128, 128), samples=20, units=units)
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / f"out{units}")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    small, large = peak(1), peak(15)
    stored = (tmp_path / "15.charpy").stat().st_size / 1024
    assert stored > 14_000
    assert large - small < stored / 3
