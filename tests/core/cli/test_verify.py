"""`charpy verify`: its exit codes, what it prints, and that a model which dies while it is asked is never a pass."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from charpy.runfile.integrity import seal
from charpy.runfile.schema import COLUMNS, row_digest

NO_ATTACKS = """
import os, sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("charpy_plugins.attacks.") or name == "a_strange_attack":
            raise ImportError("no attack may be imported: " + name)

if os.environ.get("WITHOUT_ATTACKS"):
    sys.meta_path.insert(0, Refuse())
"""

MORTAL = """
import os, sys, time
import torch

def scores(images):
    if os.environ.get("ENDS") == "at once" or os.environ.get("ENDS") and (images == 1).any():
        how = os.environ.get("HOW")
        if how == "exits":
            os._exit(0)
        if how == "leaves":
            sys.exit(0)
        if how == "hangs":
            time.sleep(3600)
        raise SystemError("broken")
    middle = images.flatten(1).mean(1)
    return torch.stack([-10 * (middle - 0.5), 10 * (middle - 0.5)], 1)
"""

STRANGER = """
import torch
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack
from charpy.threat import Access, Norm

class Strange(Attack):
    '''The negative.'''

    norms, access = frozenset({Norm.L0}), Access.LABELS

    def run(self, task):
        images = task.images.clone()
        images[:, :, :, 3:5] = 1 - images[:, :, :, 3:5]
        task.oracle.labels(images, torch.arange(len(images)))

@hookimpl
def charpy_attacks():
    return {"strange": Strange}
"""


def test_a_run_verifies_and_no_attack_is_imported(program, finished, tmp_path):
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "sitecustomize.py").write_text(NO_ATTACKS, encoding="utf-8")
    assert program("assess", "digits-cnn", "--data", "digits", "--samples", "4", WITHOUT_ATTACKS="1").code != 0
    for supervised in ("1", "0"):
        done = program("verify", finished, WITHOUT_ATTACKS="1", CHARPY_SUPERVISE=supervised)
        assert done.code == 0, done.err
        assert "VERIFIED: everything that was checked agrees" in done.out
        assert "digits-cnn  witnesses" in done.err
        assert "No check looks at: that `held` samples" in done.out


def test_json_says_the_same_and_follows_its_schema(charpy, finished):
    found = json.loads(charpy("verify", finished / "run.charpy", "--json").out)
    assert found["verdict"] == "agrees"
    with closing(sqlite3.connect(finished / "run.charpy")) as db:
        witnesses = db.execute("SELECT COUNT(*) FROM witnesses").fetchone()[0]
    assert {c["name"]: c["agree"] for c in found["checks"]}["witnesses"] == witnesses > 2
    Draft202012Validator(json.loads(charpy("schema", "--verification").out)).validate(found)


def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy" / "run.charpy"


def forge(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement).rowcount
        for table, columns in COLUMNS.items():
            marks = " AND ".join(f"{name} IS ?" for name in columns)
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
                db.execute(f"UPDATE {table} SET digest = ? WHERE {marks}", (row_digest(table, row), *row))
    seal(path)


def test_a_changed_byte_is_3_and_named(charpy, finished, tmp_path):
    path = copied(finished, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"digits/") + 8] ^= 1
    path.write_bytes(data)
    done = charpy("verify", path)
    assert done.code == 3
    assert "differs: bytes: " in done.out
    assert "other content in samples (model 0, sample " in done.out
    assert json.loads(charpy("verify", path, "--json").out)["verdict"] == "disagrees"


def test_forged_witnesses_are_3_and_named(charpy, finished, tmp_path):
    path = copied(finished, tmp_path)
    forge(path, "UPDATE witnesses SET image = (SELECT image FROM originals o WHERE o.sample = witnesses.sample)")
    done = charpy("verify", path)
    assert done.code == 3
    with closing(sqlite3.connect(path)) as db:
        forged = db.execute("SELECT unit, sample FROM witnesses").fetchall()
    for unit, sample in forged:
        assert f"differs: witnesses of digits-cnn: witnesses (unit {unit}, sample {sample}): not confirmed" in done.out
    assert "NOT VERIFIED: the run file says what is not so" in done.out


def test_the_first_twenty_are_told_and_json_has_all(charpy, finished, tmp_path):
    path = copied(finished, tmp_path)
    forge(path, "UPDATE results SET queries = -1")
    with closing(sqlite3.connect(path)) as db:
        wrong = db.execute("SELECT COUNT(*) FROM results").fetchone()[0]
    done = charpy("verify", path)
    assert done.code == 3
    assert done.out.count("differs: ") == 20
    checks = json.loads(charpy("verify", path, "--json").out)["checks"]
    assert len(checks[1]["disagreements"]) == wrong
    assert f"... and {sum(len(check['disagreements']) for check in checks) - 20} more: --json lists them" in done.out


def test_the_report_beside_it_must_say_the_same(charpy, finished, tmp_path):
    path = copied(finished, tmp_path)
    report = path.with_name("report.json")
    document = json.loads(report.read_text(encoding="utf-8"))
    document["threats"][0]["held"] += 1
    report.write_text(json.dumps(document), encoding="utf-8")
    done = charpy("verify", path.parent)
    assert done.code == 3
    assert "differs: report: report.json: digits-cnn: l0 th=1: " in done.out
    report.write_text("[]", encoding="utf-8")
    assert "differs: report: report.json: " in charpy("verify", path.parent).out
    report.unlink()
    done = charpy("verify", path.parent)
    assert done.code == 0
    assert "there is no report.json beside the run file" in done.out


def test_what_is_no_run_file_is_refused(charpy, tmp_path):
    (tmp_path / "x.charpy").write_bytes(b"no run file")
    for arguments in (("nowhere",), ("x.charpy",), ("x.charpy", "--model", "x")):
        done = charpy("verify", *arguments)
        assert (done.code, done.out) == (2, "")


def test_an_onnx_model_is_judged_in_onnx_runtime_and_another_file_is_named(charpy, quick, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    assert charpy("export", "digits-cnn", "digits.onnx").code == 0
    assert charpy("assess", "digits.onnx", "--data", "digits", *quick, "--out", "out").code == 0
    assert charpy("verify", "out").code == 0
    (tmp_path / "there").mkdir()
    (tmp_path / "digits.onnx").rename(tmp_path / "there" / "moved.onnx")
    done = charpy("verify", "out")
    assert done.code == 3
    assert "not verified: digits.onnx: the model: " in done.out
    assert "NOT VERIFIED IN FULL" in done.out
    done = charpy("verify", "out", "--model", "digits.onnx=there/moved.onnx")
    assert done.code == 0, done.out
    model = onnx.load(str(tmp_path / "there" / "moved.onnx"))
    weights = model.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.001), weights.name))
    onnx.save(model, str(tmp_path / "digits.onnx"))
    done = charpy("verify", "out")
    assert done.code == 3
    assert "differs: model of digits.onnx: digits.onnx: " in done.out
    assert "it is not the one of the run" in done.out


@pytest.mark.slow
def test_the_plugin_of_an_attack_need_not_be_installed(program, stranger, tmp_path):
    stranger("a_strange_attack", STRANGER)
    spec = "data: {kind: digits, samples: 12}\nmodels: [{reference: digits-cnn}]\nthreats: [{norm: l0, levels: [16], "
    (tmp_path / "s.yaml").write_text(spec + "battery: [{kind: strange}]}]\n", encoding="utf-8")
    assert program("run", "s.yaml", "--out", "out").code == 0
    shutil.rmtree(tmp_path / "strangers")
    assert program("run", "s.yaml", "--out", "again").code == 2
    done = program("verify", "out", CHARPY_SUPERVISE="0")
    assert done.code == 0, done.out
    with closing(sqlite3.connect(tmp_path / "out" / "run.charpy")) as db:
        assert db.execute("SELECT COUNT(*) FROM witnesses").fetchone()[0] > 0


@pytest.fixture
def mortal(charpy, tmp_path):
    """A run of a model that shall die: no image has a white pixel, and its witnesses do."""
    (tmp_path / "mortal.py").write_text(MORTAL, encoding="utf-8")
    images = np.random.default_rng(0).integers(105, 125, (12, 1, 5, 5)).astype(np.uint8)
    np.savez(tmp_path / "shades.npz", images=images, labels=np.repeat([0, 1], [11, 1]))
    spec = "data: {kind: npz, params: {path: shades.npz}}\nmodels: [{reference: 'mortal:scores'}]\n"
    threats = "threats: [{norm: l0, levels: [8], queries: 60, battery: [{kind: corner_pixels}]}]\n"
    (tmp_path / "s.yaml").write_text(f"{spec}{threats}limits: {{silent_seconds: 20}}\n", encoding="utf-8")
    assert charpy("run", "s.yaml", "--out", "out").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exits", "it ended itself with exit code 0"),
        ("leaves", "not confirmed: the model fails"),
        ("hangs", "it hung: no sign of life for 20 s"),
        ("raises", "not confirmed: the model fails"),
    ],
)
def test_a_model_that_dies_while_it_verifies_is_never_a_pass(program, mortal, how, said):
    done = program("verify", "out", ENDS="at a witness", HOW=how)
    assert done.code == 3, done.err
    assert said in done.out
    if how not in ("raises", "leaves"):  # these the judge survives
        assert "differs: the process: mortal:scores  witnesses: " in done.out
        assert "not verified: what comes after this: mortal:scores  witnesses" in done.out
        assert "clean predictions" in done.out


@pytest.mark.slow
def test_a_model_that_dies_when_it_is_tried_is_named_too(program, mortal):
    done = program("verify", "out", ENDS="at once", HOW="exits")
    assert done.code == 3
    assert "differs: the process: trying model mortal:scores: it ended itself with exit code 0" in done.out
