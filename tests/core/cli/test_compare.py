"""`charpy compare`: what it writes of real runs, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from charpy.cli.app import run_program

FAST = ("--samples", "12", "--levels", "1,3", "--battery", "fast", "--certify", "0")
PAGES = {"compare.json", "compare.html", "compare.md"}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same model on the same samples, with other attacks."""
    out = tmp_path_factory.mktemp("other") / "fast"
    assert run_program(["assess", "digits-cnn", "--data", "digits", "--out", str(out), *FAST]) == 0
    return out


@pytest.fixture(scope="module")
def compared(finished, other, tmp_path_factory):
    """compare.json of both runs, with the transfer matrix."""
    out = tmp_path_factory.mktemp("compared")
    assert run_program(["compare", str(finished), str(other), "--transfer", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == PAGES
    return json.loads((out / "compare.json").read_text(encoding="utf-8"))


def test_the_dual_table_is_that_of_each_runs_own_report(compared, finished, other):
    for entry, run in zip(compared["entries"], (finished, other), strict=True):
        threats = json.loads((run / "report.json").read_text(encoding="utf-8"))["threats"]
        cells = [cell for cell in compared["dual"] if cell["entry"] == entry["title"]]
        assert [(c["norm"], c["th"], c["broken"]["count"], c["broken"]["total"]) for c in cells] == [
            (t["norm"], t["th"], t["broken"], t["broken"] + t["held"] + t["proven"]) for t in threats
        ]
        assert any(cell["broken"]["count"] for cell in cells)


def test_mean_l2_is_that_of_the_l2_metric_in_the_run_file(compared, finished, other):
    entries = compared["entries"]
    seen = 0
    for cell in compared["attacks"]:
        run = (finished, other)[[entry["title"] for entry in entries].index(cell["entry"])]
        if not cell["complete"] or cell["mean_l2"] is None:
            continue
        query = """
            SELECT MIN(w.distance), json_extract(w.metrics, '$.l2') FROM witnesses w JOIN units u ON u.unit = w.unit
            WHERE w.norm = ? AND u.kind = ? AND w.distance <= ? GROUP BY w.sample"""
        with closing(sqlite3.connect(run / "run.charpy")) as file:
            rows = file.execute(query, (cell["norm"], cell["kind"], cell["th"])).fetchall()
        assert len(rows) == cell["success"]["count"]
        assert cell["mean_l2"] == pytest.approx(sum(l2 for _, l2 in rows) / len(rows), rel=1e-4)
        seen += 1
    assert seen


def test_a_duel_counts_the_samples_of_the_two_run_files(compared, finished, other):
    def broken(run, th):
        query = "SELECT DISTINCT sample FROM witnesses WHERE norm = 'l0' AND distance <= ?"
        with closing(sqlite3.connect(run / "run.charpy")) as file:
            return {sample for (sample,) in file.execute(query, (th,))}

    duels = [duel for duel in compared["duels"] if duel["norm"] == "l0"]
    assert [duel["th"] for duel in duels] == [1, 3]
    for duel in duels:
        first, second = broken(finished, duel["th"]), broken(other, duel["th"])
        assert (duel["both"], duel["only_first"], duel["only_second"]) == (
            len(first & second), len(first - second), len(second - first),
        )  # fmt: skip
        assert duel["model"] == "digits-cnn"


def test_a_model_shown_its_own_witnesses_is_fooled_by_all(compared):
    assert compared["transfer"]
    for cell in compared["transfer"]:
        assert cell["target"] == "digits-cnn"
        assert cell["fooled"]["count"] == cell["fooled"]["total"] > 0


def test_it_prints_the_tables_what_is_missing_and_the_paths(charpy, finished, tmp_path):
    done = charpy("compare", finished)
    assert done.code == 0
    assert "Adversarial accuracy of every model: L0 (pixels)" in done.out
    assert "no duels: " in done.out
    assert "levels: minimal" in done.out
    assert done.out.rstrip().endswith("compare.md")
    assert {path.name for path in (tmp_path / "charpy-comparison").iterdir()} == PAGES


def test_the_same_runs_give_the_same_bytes(charpy, finished, other, tmp_path):
    for folder in ("a", "b"):
        assert charpy("compare", finished, other / "run.charpy", "--out", folder).code == 0
    for name in PAGES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_run_that_is_no_evidence_is_exit_code_3(charpy, finished, forged, tmp_path):
    shutil.copy(finished / "run.charpy", tmp_path)
    with forged(tmp_path / "run.charpy") as run:
        run.execute("UPDATE samples SET prediction = NULL, valid = 0 WHERE sample = 0")
    done = charpy("compare", "run.charpy", "--out", "out")
    assert done.code == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == PAGES


def test_what_it_refuses_leaves_nothing_behind(charpy, finished, tmp_path):
    (tmp_path / "not.charpy").write_text("not a run file " * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").write_text("a file")
    whole = (finished / "run.charpy").read_bytes()
    (tmp_path / "cut.charpy").write_bytes(whole[:8192])
    shutil.copy(finished / "run.charpy", tmp_path / "copy.charpy")
    for arguments, expected in (
        ([], "no run is given"),
        (["nowhere.charpy"], "no such run file"),
        (["empty"], "no such run file"),
        ([finished, "not.charpy"], "not a charpy run file"),
        ([finished, "cut.charpy"], "run file"),
        ([finished, "copy.charpy"], "given twice"),
        ([finished, "--out", "taken"], "cannot be made"),
        ([finished, "--format", "html"], "--format"),
    ):
        done = charpy("compare", *arguments, *(() if "--out" in arguments else ("--out", "x")))
        assert done.code == 2, (arguments, done.err)
        assert expected in done.err
        assert "Traceback" not in done.err
        assert not done.out
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_page_that_cannot_be_written_leaves_no_other(charpy, finished, tmp_path):
    (tmp_path / "out" / "compare.md.partial").mkdir(parents=True)
    done = charpy("compare", finished, "--out", "out")
    assert done.code == 2
    assert "cannot be written" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["compare.md.partial"]


def test_a_model_that_changed_since_its_run_is_refused(charpy, finished, forged, tmp_path):
    shutil.copy(finished / "run.charpy", tmp_path)
    with forged(tmp_path / "run.charpy") as run:
        (models,) = run.execute("SELECT value FROM meta WHERE key = 'models'").fetchone()
        parts = json.loads(models)
        parts[0]["fingerprint"] = dict.fromkeys(parts[0]["fingerprint"], "another")
        run.execute("UPDATE meta SET value = ? WHERE key = 'models'", (json.dumps(parts),))
    done = charpy("compare", "run.charpy", "--transfer", "--out", "out")
    assert done.code == 2
    assert "not the one of the run any more" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_crash(finished, tmp_path, unread):
    command = [sys.executable, "-m", "charpy", "compare", finished, "--out", tmp_path / "out"]
    done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == PAGES
