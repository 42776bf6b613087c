"""A run file verified without its attacks: a true one agrees, and whatever is forged in it is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

from charpy.errors import ChangedError, DataError, SpecError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.pixels import pack
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.runfile.integrity import seal
from charpy.runfile.schema import APPLICATION_ID, COLUMNS, row_digest
from charpy.specs import RunSpec, parse
from charpy.threat import Grid
from charpy.verification.document import Verification
from charpy.verification.verify import Places, verify
from charpy.verification.witnesses import _same

MODEL = """
import os
import torch

def scores(images):
    middle = images.flatten(1).mean(1)
    return torch.stack([-10 * (middle - 0.52), 10 * (middle - 0.52)], 1)

def drawn(images):
    return scores(images) + 0.2 * torch.randn(len(images), 2)

def labels(images):
    return scores(images).argmax(1)

def moody(images):
    return "no mood" if os.environ.get("MOOD") else scores(images)

def nan(images):
    found = scores(images)
    found[images[:, 0, 0, 1] > 0.9] = float("nan")
    return found
"""

SHADES = """
import numpy as np
rng = np.random.default_rng(0)
images = (rng.random((24, 1, 6, 6)) * 60 + 90).astype("uint8")
images[12:] += 25
images[3, 0, 0, 1] = 255
np.savez("shades.npz", images=images, labels=np.repeat([0, 1], 12))
images[5] += 1
np.savez("other.npz", images=images, labels=np.repeat([0, 1], 12))
"""

THREATS = [
    {"norm": "l0", "levels": [2, 4, 8], "queries": 60, "battery": [{"kind": "pointwise"}, {"kind": "corner_pixels"}]},
    {"norm": "linf", "levels": [10, 30], "queries": 60, "battery": [{"kind": "square"}, {"kind": "nes"}]},
]


def spec_of(**more) -> RunSpec:
    base = {
        "data": {"kind": "npz", "params": {"path": "shades.npz"}},
        "models": [{"reference": "a_model:scores"}],
        "threats": THREATS,
        "shard": 10,
    }
    return parse(RunSpec, {**base, **more})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, data and a run; tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "a_model.py").write_text(MODEL, encoding="utf-8")
    subprocess.run([sys.executable, "-c", SHADES], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
        evaluate(spec_of(), folder / "run.charpy")
        sys.modules.pop("a_model", None)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
    yield tmp_path / "copy"
    sys.modules.pop("a_model", None)


def found(path, **places) -> Verification:
    return Verification.of(str(path), "", list(verify(path, Places(**places), registry())))


def told(verification: Verification) -> list[str]:
    """Every disagreement in one line."""
    return [
        f"{check.name}: {one.record}: {one.found} / {one.expected}"
        for check in verification.checks
        for one in check.disagreements
    ]


def missing(verification: Verification) -> str:
    return "; ".join(text for check in verification.checks for text in check.not_verified)


def check(verification: Verification, name: str):
    return next(one for one in verification.checks if one.name == name)


def forge(path, *statements) -> None:
    """Change a run file as somebody does who knows the format: every digest and the seal are made anew."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement, *values in statements:
            assert db.execute(statement, values).rowcount
        for table, columns in COLUMNS.items():
            marks = " AND ".join(f"{name} IS ?" for name in columns)
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
                db.execute(f"UPDATE {table} SET digest = ? WHERE {marks}", (row_digest(table, row), *row))
    seal(path)
    RunFile.open(path).close()  # no digest tells


def one(path, query):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchone()


def test_a_true_run_agrees_in_every_record(folder):
    seen = found(folder / "run.charpy")
    assert (seen.verdict, told(seen), missing(seen)) == ("agrees", [], "")
    counts = {part.name: (part.checked, part.agree) for part in seen.checks}
    assert counts["witnesses"][0] == one("run.charpy", "SELECT COUNT(*) FROM witnesses")[0] > 20
    assert counts["units as planned"][0] == one("run.charpy", "SELECT COUNT(*) FROM units")[0] > 8
    assert counts["clean predictions"] == (24, 24)
    assert counts["bytes"][0] == sum(one("run.charpy", f"SELECT COUNT(*) FROM {table}")[0] for table in COLUMNS)
    assert all(part.checked == part.agree for part in seen.checks)


def test_a_changed_byte_is_named(folder):
    data = bytearray((folder / "run.charpy").read_bytes())
    data[data.index(b"shades/00007") + 4] ^= 1
    (folder / "run.charpy").write_bytes(data)
    with pytest.raises(ChangedError, match=r"samples \(model 0, sample 7\)"):
        found(folder / "run.charpy")


def test_a_forged_witness_is_named(folder):
    unit, sample = one("run.charpy", "SELECT unit, sample FROM witnesses WHERE norm = 'linf' LIMIT 1")
    with RunFile.open(folder / "run.charpy") as run:
        original = run.original(sample)
    forge(
        folder / "run.charpy",
        ("UPDATE witnesses SET image = ? WHERE unit = ? AND sample = ?", original, unit, sample),
    )
    (line,) = told(found(folder / "run.charpy"))
    assert line.startswith(f"witnesses: witnesses (unit {unit}, sample {sample}): not confirmed: classified correctly")


def test_a_witness_outside_its_ball_is_named(folder):
    unit, sample = one("run.charpy", "SELECT unit, sample FROM witnesses WHERE norm = 'linf' AND th = 10 LIMIT 1")
    far = pack(torch.full((1, 6, 6), 255 if sample < 12 else 0, dtype=torch.uint8), Grid.EIGHT_BIT)
    forge(folder / "run.charpy", ("UPDATE witnesses SET image = ? WHERE unit = ? AND sample = ?", far, unit, sample))
    (line,) = told(found(folder / "run.charpy"))
    assert f"(unit {unit}, sample {sample}): not confirmed: outside the linf ball" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("distance = distance - 1", "as stored"),
        ("prediction = 1 - prediction", "as stored"),
        ("metrics = json_set(metrics, '$.l2', 1.0 + json_extract(metrics, '$.l2'))", "l2"),
        ("metrics = json_remove(metrics, '$.l1')", "metrics l0_features"),
        ("metrics = json_set(metrics, '$.l1', 'much')", "l1"),
        ("image = X'00'", "stored image has the wrong size"),
        ("image = X'789C7777'", "stored image cannot be inflated"),
    ],
)
def test_what_is_said_of_a_witness_is_measured_again(folder, change, said):
    unit, sample = one("run.charpy", "SELECT unit, sample FROM witnesses WHERE distance > 3 LIMIT 1")
    forge(folder / "run.charpy", (f"UPDATE witnesses SET {change} WHERE unit = {unit} AND sample = {sample}",))
    (line,) = told(found(folder / "run.charpy"))
    assert f"witnesses (unit {unit}, sample {sample})" in line
    assert said in line


def test_a_rounding_of_a_metric_is_none_of_a_witness(folder):
    change = "UPDATE witnesses SET metrics = json_set(metrics, '$.l2', json_extract(metrics, '$.l2') * 1.00001)"
    forge(folder / "run.charpy", (change,))
    assert found(folder / "run.charpy").verdict == "agrees"


def test_a_flipped_outcome_is_named(folder):
    unit, sample = one("run.charpy", "SELECT unit, sample FROM results WHERE outcome = 'held' LIMIT 1")
    forge(folder / "run.charpy", ("UPDATE results SET outcome = 'broken' WHERE unit = ? AND sample = ?", unit, sample))
    assert (
        f"records: results (unit {unit}, sample {sample}): broken, without a witness / a witness in the same unit"
        in (told(found(folder / "run.charpy")))
    )
    shutil.copy(folder / "run.charpy", folder / "again.charpy")
    unit, sample = one("run.charpy", "SELECT unit, sample FROM witnesses LIMIT 1")
    forge(folder / "again.charpy", ("UPDATE results SET outcome = 'held' WHERE unit = ? AND sample = ?", unit, sample))
    assert any(f"witnesses (unit {unit}, sample {sample})" in line for line in told(found(folder / "again.charpy")))


def dropped(unit) -> list[tuple]:
    return [(f"DELETE FROM {table} WHERE unit = {unit}",) for table in ("results", "units")]


def test_a_dropped_unit_is_named(folder):
    unit, norm, th, step = one(
        "run.charpy",
        "SELECT unit, norm, th, step FROM units u WHERE NOT EXISTS (SELECT 1 FROM witnesses w WHERE w.unit = u.unit)",
    )
    forge(folder / "run.charpy", *dropped(unit))
    (line,) = told(found(folder / "run.charpy"))
    assert line.startswith(f"units as planned: model 0, {norm} th={th}, attack {step + 1}, shard ")
    assert "no such unit" in line


def test_a_dropped_unit_with_witnesses_is_named_too(folder):
    (unit,) = one("run.charpy", "SELECT unit FROM witnesses GROUP BY unit ORDER BY COUNT(*) DESC LIMIT 1")
    forge(folder / "run.charpy", (f"DELETE FROM witnesses WHERE unit = {unit}",), *dropped(unit))
    lines = told(found(folder / "run.charpy"))
    assert any(line.startswith("units as planned") and "no such unit" in line for line in lines)


def test_a_dropped_result_and_one_too_many_are_named(folder):
    unit, sample = one("run.charpy", "SELECT unit, sample FROM results WHERE outcome = 'held' LIMIT 1")
    forge(folder / "run.charpy", (f"DELETE FROM results WHERE unit = {unit} AND sample = {sample}",))
    (line,) = told(found(folder / "run.charpy"))
    assert line.startswith(f"units as planned: unit {unit}: ")
    assert f"results of none too many, of samples {sample} missing" in line
    forge(folder / "run.charpy", (f"INSERT INTO results VALUES ({unit}, {sample}, 'held', 9, NULL, '', X'00')",))
    assert found(folder / "run.charpy").verdict == "agrees"
    forge(folder / "run.charpy", (f"INSERT INTO results VALUES ({unit}, 23, 'held', 9, NULL, '', X'00')",))
    assert any("results of samples 23 too many" in line for line in told(found(folder / "run.charpy")))


def test_a_unit_that_nothing_plans_is_named(folder):
    columns = "model, norm, th, step, 7, round, attack, kind, rows, seconds, detail, digest FROM units LIMIT 1"
    forge(folder / "run.charpy", (f"INSERT INTO units SELECT 999, {columns}",))
    empty, line = told(found(folder / "run.charpy"))
    assert empty.startswith("records: units (unit 999): no result")
    assert line.startswith("units as planned: unit 999: model 0, l0")
    assert "a unit that nothing plans" in line


@pytest.mark.parametrize(
    ("statements", "names"),
    [
        (["CREATE VIEW more AS SELECT 1"], ["view more"]),
        (["CREATE TABLE mine (x)"], ["table mine"]),
        (["ALTER TABLE rejected RENAME TO hidden", "CREATE TABLE rejected (unit, sample, reason, digest)"],
         ["index sqlite_autoindex_rejected_1", "table hidden", "table rejected"]),
    ],
)  # fmt: skip
def test_other_tables_than_ours_are_named(folder, statements, names):
    with closing(sqlite3.connect(folder / "run.charpy", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    seal(folder / "run.charpy")
    lines = told(found(folder / "run.charpy"))
    assert [line.split(": ")[2] for line in lines] == [name for name in names if not name.startswith("index")]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'models'",
        "UPDATE meta SET value = '[]' WHERE key = 'models'",
        "DELETE FROM meta WHERE key = 'dataset'",
        "DELETE FROM meta WHERE key = 'plan'",
        "DELETE FROM meta WHERE key = 'finished'",
        "DELETE FROM identity WHERE key LIKE 'model.%'",
        "DELETE FROM identity WHERE key = 'data.fingerprint'",
        "DELETE FROM witnesses",
        "DELETE FROM originals",
        "DELETE FROM results",
        "DELETE FROM samples WHERE sample = 23",
        "DELETE FROM samples",
    ],
)
def test_what_is_taken_away_is_never_a_pass(folder, statement):
    forge(folder / "run.charpy", (statement,))
    assert found(folder / "run.charpy").verdict != "agrees"


def test_records_that_make_no_sense_are_no_pass(folder):
    parts = json.loads(one("run.charpy", "SELECT value FROM meta WHERE key = 'plan'")[0])
    for value in ([], {}, [{}], [{"l0": 1, "linf": 2}], [{**parts[0], "l0": [{"attack": "x", "family": "none"}]}]):
        shutil.copy(folder / "run.charpy", folder / "again.charpy")
        forge(folder / "again.charpy", ("UPDATE meta SET value = ? WHERE key = 'plan'", json.dumps(value)))
        assert any("meta (plan)" in line for line in told(found(folder / "again.charpy")))


def test_an_attack_of_the_spec_left_out_is_named(folder):
    forge(folder / "run.charpy", ("UPDATE units SET attack = 'strong', kind = 'strong' WHERE step = 1",))
    assert all("by strong (strong) / by " in line for line in told(found(folder / "run.charpy")))
    plan = json.loads(one("run.charpy", "SELECT value FROM meta WHERE key = 'plan'")[0])
    for rows in plan[0].values():
        rows[1].update(attack="strong", kind="strong")
    forge(folder / "run.charpy", ("UPDATE meta SET value = ? WHERE key = 'plan'", json.dumps(plan)))
    lines = told(found(folder / "run.charpy"))
    assert lines
    assert all("attacks of the spec" in line for line in lines)


def test_more_queries_than_the_budget_are_named(folder):
    forge(folder / "run.charpy", ("UPDATE results SET queries = 61 WHERE unit = 1 AND sample = 0",))
    (line,) = told(found(folder / "run.charpy"))
    assert line == "records: results (unit 1, sample 0): 61 queries / at most 60, the budget of its unit"
    forge(folder / "run.charpy", ("UPDATE units SET detail = json_set(detail, '$.queries', 61) WHERE unit = 1",))
    (line,) = told(found(folder / "run.charpy"))
    assert "61 queries / untargeted, at most 60 queries" in line


def test_a_changed_spec_is_not_that_of_the_identity(folder):
    spec = json.loads(one("run.charpy", "SELECT value FROM meta WHERE key = 'spec'")[0])
    spec["threats"][0]["queries"] = 100_000
    forge(folder / "run.charpy", ("UPDATE meta SET value = ? WHERE key = 'spec'", json.dumps(spec)))
    (line,) = told(found(folder / "run.charpy"))
    assert line == "records: identity (spec.threats.0.queries): 60 / 100000"


@pytest.mark.slow
def test_a_parameter_that_the_identity_lacks_is_named_unless_it_says_where_something_lies(folder):
    path = run(folder, models=[{"reference": "a_model:scores", "defenses": [RESIZED]}])
    assert "spec.data.params.path" not in identity_in(path)
    key = "spec.models.0.defenses.0.params.fill"
    value = identity_in(path)[key]
    forge(path, (f"DELETE FROM identity WHERE key = '{key}'",))
    assert told(found(path)) == [f"records: identity ({key}): (none) / {value}"]


def identity_in(path):
    with RunFile.open(path) as run:
        return run.identity


def test_a_flipped_clean_prediction_and_label_are_named(folder):
    forge(folder / "run.charpy", ("UPDATE samples SET prediction = 1 - prediction WHERE sample = 2",))
    lines = told(found(folder / "run.charpy"))
    assert "clean predictions: samples (model 0, sample 2): class 0 / class 1, as stored" in lines
    forge(folder / "run.charpy", ("UPDATE samples SET label = 1 WHERE sample = 2",))
    assert any(line.startswith("data and originals: samples (sample 2): shades/00002, label 1") for line in (
        told(found(folder / "run.charpy"))
    ))  # fmt: skip


def test_a_changed_original_is_named(folder):
    (sample,) = one("run.charpy", "SELECT sample FROM originals LIMIT 1")
    image = np.load("shades.npz")["images"][sample].copy()
    image[0, 2, 2] += 1
    forge(
        folder / "run.charpy",
        ("UPDATE originals SET image = ? WHERE sample = ?", pack(torch.from_numpy(image), Grid.EIGHT_BIT), sample),
    )
    lines = told(found(folder / "run.charpy"))
    assert f"data and originals: originals (sample {sample}): 1 other values / the image of shades/{sample:05}" in lines


def test_a_proven_sample_with_a_witness_is_named(folder):
    sample, th = one("run.charpy", "SELECT sample, th FROM witnesses WHERE norm = 'linf' LIMIT 1")
    forge(
        folder / "run.charpy",
        ("INSERT INTO proofs VALUES (1, 0, 'linf', ?, 'sure', ?, 0.1, '{}', X'00')", th, sample),
        ("INSERT INTO proven VALUES (1, ?, 1, X'00')", sample),
    )
    (line,) = told(found(folder / "run.charpy"))
    assert line.startswith(
        f"proofs and witnesses: a_model:scores: linf th={th}, proof by sure, sample {sample}: a witness"
    )


MALFORMED = {
    "metrics that are no JSON": ("witnesses", "metrics", "'{'"),
    "a detail that is a list": ("units", "detail", "'[]'"),
    "a detail that is nothing": ("units", "detail", "'null'"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_record_that_cannot_be_read_is_named_and_stops_nothing_worse(folder, case):
    table, column, value = MALFORMED[case]
    forge(folder / "run.charpy", (f"UPDATE {table} SET {column} = {value}",))
    seen = found(folder / "run.charpy")
    records = [line for line in told(seen) if f": {column}: none / a JSON mapping" in line]
    assert len(records) == one("run.charpy", f"SELECT COUNT(*) FROM {table}")[0]
    assert records[0].startswith(f"records: {table} (")
    assert seen.verdict == "disagrees"
    assert "everything else" in missing(seen)


def test_another_dataset_is_named_with_what_differs(folder):
    seen = found(folder / "run.charpy", data={"kind": "npz", "params": {"path": "other.npz"}})
    lines = told(seen)
    assert seen.verdict == "disagrees"
    assert lines[0].startswith("data and originals: data other: fingerprint")
    assert "24 clean predictions: without the data of the run" in missing(seen)
    shutil.copy("other.npz", "shades.npz")
    lines = told(found(folder / "run.charpy"))
    assert lines[0].startswith("data and originals: data shades: fingerprint")
    broken = one("run.charpy", "SELECT COUNT(*) FROM originals WHERE sample = 5")[0]
    assert len(lines) == 1 + broken


def test_another_model_is_named(folder):
    (folder / "a_model.py").write_text(MODEL.replace("0.52", "0.51"), encoding="utf-8")
    seen = found(folder / "run.charpy")
    assert seen.verdict == "disagrees"
    assert all(line.startswith("model: a_model:scores: ") for line in told(seen))
    assert "what the model answers: it is not the one of the run" in missing(seen)
    assert check(seen, "witnesses").checked == check(seen, "witnesses").agree > 20  # distances and metrics


def test_what_is_not_here_is_not_verified_and_said(folder, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "run.charpy", elsewhere)
    monkeypatch.chdir(elsewhere)
    seen = found(elsewhere / "run.charpy")
    assert (seen.verdict, told(seen)) == ("incomplete", [])
    for text in ("the data: ", "--data", "the model: ", "--model NAME=REFERENCE", "24 clean predictions", "witnesses"):
        assert text in missing(seen)
    assert check(seen, "witnesses").checked > 20
    (elsewhere / "a_model.py").write_text(MODEL, encoding="utf-8")
    moved = {"kind": "npz", "params": {"path": str(folder / "shades.npz")}}
    assert found(elsewhere / "run.charpy", data=moved).verdict == "agrees"
    (elsewhere / "a_model.py").rename(elsewhere / "moved_model.py")
    sys.modules.pop("a_model", None)
    assert "the model: " in missing(found(elsewhere / "run.charpy", data=moved))


def test_a_place_for_what_is_not_in_the_run_is_refused(folder):
    with pytest.raises(UnknownNameError, match="a_model:scores"):
        found(folder / "run.charpy", models={"a_modle:scores": "x:y"})
    with pytest.raises(SpecError, match="give --data DATA"):
        found(folder / "run.charpy", data_dir="/nowhere")


def run(folder, **more):
    evaluate(spec_of(**more), folder / "next.charpy")
    return folder / "next.charpy"


SMALLEST = {"norm": "linf", "levels": "minimal", "queries": 40, "battery": [{"kind": "pointwise"}, {"kind": "square"}]}
SMALLEST_L0 = {
    "norm": "l0",
    "levels": "minimal",
    "queries": 40,
    "battery": [{"kind": "pointwise"}, {"kind": "corner_pixels"}],
}
L2 = {"norm": "l2", "levels": [128, 900], "queries": 200, "battery": [{"kind": "pgd2"}, {"kind": "ddn"}]}

RESIZED = {"kind": "random_resize", "params": {"fill": 0.5}}

KINDS = {
    "a contest": {"contest": True},
    "levels that are not nested": {"carry": False},
    "the smallest levels": {"threats": [SMALLEST_L0]},
    "targeted": {"threats": [{**THREATS[1], "goal": "targeted", "levels": [40]}]},
    "off the grid": {"threats": [{**THREATS[1], "queries": 100}], "grid": "none"},
    "unrestricted": {"threats": [{"norm": "unrestricted", "queries": 60, "battery": [{"kind": "color_shift"}]}]},
    "other metrics": {"metrics": [{"kind": "ssim", "params": {"window": 3}}, {"kind": "psnr"}]},
    "the witnesses of another run": {
        "threats": [{**THREATS[1], "battery": [{"kind": "transfer", "params": {"source": "run.charpy"}}]}]
    },
    "a model that answers with labels": {"models": [{"reference": "a_model:labels"}], "threats": [THREATS[0]]},
    "a model that answers NaN": {"models": [{"reference": "a_model:nan"}]},
    "a defence": {"models": [{"reference": "a_model:scores", "defenses": [{"kind": "feature_squeezing"}]}]},
    "a seeded defence": {"models": [{"reference": "a_model:scores", "defenses": [RESIZED]}]},
    "two models, two attackers": {
        "models": [
            {"reference": "a_model:scores"},
            {"name": "soft", "reference": "a_model:scores", "defenses": [{"kind": "bilateral_filter"}],
             "attackers": ["static", "black-box"]},
        ]
    },
    "a draw of the samples": {"data": {"kind": "npz", "params": {"path": "shades.npz"}, "samples": 15, "seed": 3}},
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind in {"a seeded defence", "two models, two attackers"}))
        for kind in KINDS
    ],
)
def test_every_kind_of_run_agrees(folder, kind):
    path = run(folder, **KINDS[kind])
    seen = found(path)
    assert (seen.verdict, told(seen), missing(seen)) == ("agrees", [], "")
    assert one(path, "SELECT COUNT(*) FROM witnesses")[0] > 3
    assert sum(part.unconfirmed for part in seen.checks) == 0
    (unit,) = one(path, "SELECT MAX(unit) FROM units")
    forge(path, *((f"DELETE FROM {table} WHERE unit = {unit}",) for table in ("results", "units")))
    assert any(line.startswith("units as planned") for line in told(found(path)))


def test_levels_of_their_own(folder):
    with RunFile.open(folder / "run.charpy") as earlier:
        fingerprint = earlier.identity["data.fingerprint"]
        ids = [row.id for row in earlier.samples(0)]
    levels = {name: 5 * (i % 4) for i, name in enumerate(ids)}
    table = {"schema": "charpy/eps/1", "norm": "linf", "data": {"name": "x", "fingerprint": fingerprint}}
    (folder / "eps.json").write_text(json.dumps({**table, "samples": levels}), encoding="utf-8")
    path = run(folder, threats=[{**THREATS[1], "levels": {"path": "eps.json"}}])
    seen = found(path)
    assert (seen.verdict, told(seen), missing(seen)) == ("agrees", [], "")
    (folder / "eps.json").write_text(json.dumps({**table, "samples": {**levels, ids[1]: 127}}), encoding="utf-8")
    assert [line.split(":")[1] for line in told(found(path))] == [" levels of linf", " meta (own_levels)"]
    (folder / "eps.json").unlink()
    assert "the file of the levels of linf (eps.json)" in missing(found(path))


def test_answers_that_are_left_to_chance_are_counted_not_called_forged(folder):
    path = run(folder, models=[{"reference": "a_model:drawn"}])
    seen = found(path)
    assert not [line for line in told(seen) if line.startswith(("witnesses", "clean"))]
    assert check(seen, "witnesses").checked > 10
    assert sum(part.unconfirmed for part in seen.checks) > 0
    assert any("left to chance" in note for note in check(seen, "model").notes)
    forge(path, ("UPDATE witnesses SET distance = distance / 2 WHERE norm = 'linf'",))  # there is no chance in those
    halved = one(path, "SELECT count(*) FROM witnesses WHERE norm = 'linf'")[0]
    assert len([line for line in told(found(path)) if "distance" in line]) == halved > 10


def test_chance_is_no_excuse_for_a_model_that_is_said_to_have_none(folder):
    path = run(folder, models=[{"reference": "a_model:drawn"}])
    parts = json.loads(one(path, "SELECT value FROM meta WHERE key = 'models'")[0])
    parts[0]["deterministic"] = True
    forge(path, ("UPDATE meta SET value = ? WHERE key = 'models'", json.dumps(parts)))
    assert "model: a_model:drawn: answers: left to chance / the same answers each time" in told(found(path))


@pytest.mark.parametrize("units", [0, 1, 3, 7])
def test_an_unfinished_run_is_followed_as_far_as_it_has_come(folder, units, monkeypatch):
    class StopError(Exception):
        pass

    written, path = [], folder / "next.charpy"
    real = RunFile.write_unit

    def write(self, record):
        if len(written) == units:
            raise StopError
        real(self, record)
        written.append(record)

    monkeypatch.setattr(RunFile, "write_unit", write)
    with pytest.raises(StopError):
        evaluate(spec_of(), path)
    seen = found(path)
    assert (seen.verdict, told(seen)) == ("incomplete", [])
    assert "the run is not finished" in missing(seen)
    assert check(seen, "units as planned").checked == units
    assert check(seen, "clean predictions").checked == 24


def test_what_a_strangers_data_or_model_raises_is_said_in_its_words(folder, monkeypatch):
    def fails(*_, **__):
        raise LookupError("its own words")

    with monkeypatch.context() as patch:
        patch.setattr("charpy.verification.data.open_dataset", fails)
        assert "the data: LookupError: its own words; say where it is now with --data" in missing(
            found(folder / "run.charpy")
        )
    monkeypatch.setattr("charpy.verification.models.subject_of", fails)
    seen = found(folder / "run.charpy")
    assert seen.verdict == "incomplete"
    assert "the model: LookupError: its own words; say where it is now with --model" in missing(seen)


def test_data_of_another_shape_is_named_and_nothing_is_compared_with_it(folder):
    np.savez("wide.npz", images=np.zeros((24, 1, 6, 7), np.uint8) + 90, labels=np.repeat([0, 1], 12))
    seen = found(folder / "run.charpy", data={"kind": "npz", "params": {"path": "wide.npz"}})
    assert [line.split(": ", 1)[1] for line in told(seen) if "shape" in line] == ["data: shape: [1, 6, 7] / [1, 6, 6]"]
    assert check(seen, "data and originals").checked == 3  # fingerprint, number and shape
    assert "24 clean predictions: without the data of the run" in missing(seen)


def test_an_original_that_is_no_image_is_named_with_and_without_the_data(folder):
    (sample,) = one("run.charpy", "SELECT MIN(sample) FROM originals")
    forge(folder / "run.charpy", ("UPDATE originals SET image = X'00' WHERE sample = ?", sample))
    lines = told(found(folder / "run.charpy"))
    assert f"data and originals: originals (sample {sample}): stored image has the wrong size / an image" in lines
    assert any(line.startswith("witnesses: ") and f"sample {sample})" in line for line in lines)
    (folder / "shades.npz").unlink()
    seen = found(folder / "run.charpy")
    assert told(seen) == [line for line in lines if line.startswith("witnesses: ")]
    forge(folder / "run.charpy", ("UPDATE originals SET image = X'00'",))
    seen = found(folder / "run.charpy")  # no image to try the model on, and none to measure
    assert {line.rpartition(": ")[2] for line in told(seen)} == {"0 bytes / an image"}


def test_without_data_and_witnesses_a_model_is_only_known_by_its_bytes(folder):
    path = run(folder, threats=[{"norm": "l0", "levels": [1], "queries": 1, "battery": [{"kind": "corner_pixels"}]}])
    assert one(path, "SELECT COUNT(*) FROM witnesses") == (0,)
    (folder / "shades.npz").unlink()
    seen = found(path)
    assert (seen.verdict, told(seen)) == ("incomplete", [])
    assert check(seen, "model").checked > 0
    assert "24 clean predictions: without the model of the run there is nothing to ask" in missing(seen)


def test_a_model_that_answers_in_another_form_than_in_the_run_is_named(folder, monkeypatch):
    path = run(folder, models=[{"reference": "a_model:moody"}], threats=[THREATS[0]])
    assert found(path).verdict == "agrees"
    monkeypatch.setenv("MOOD", "bad")
    seen = found(path)
    (line,) = told(seen)
    assert line.startswith("model: a_model:moody: answers: ")
    assert line.endswith("/ a model that can be tried")
    assert check(seen, "witnesses").checked == check(seen, "witnesses").agree > 3  # distances and metrics


def test_a_metric_that_cannot_be_measured_here_is_said(folder, monkeypatch):
    path = run(folder, metrics=[{"kind": "psnr"}, {"kind": "ssim", "params": {"window": 3}}])
    monkeypatch.setattr("charpy_plugins.metrics.psnr.Psnr.__init__", refuses)
    seen = found(path)
    assert (seen.verdict, told(seen)) == ("incomplete", [])
    assert "metric psnr: it needs what is not here" in missing(seen)
    assert check(seen, "witnesses").checked == check(seen, "witnesses").agree > 3
    metrics = registry().entries("metrics")
    left = [entry for entry in metrics if entry.kind != "l1"]
    monkeypatch.setattr(type(registry()), "entries", lambda self, what: left if what == "metrics" else metrics)
    assert "metric l1: it is not installed" in missing(found(folder / "run.charpy"))


def refuses(*_, **__):
    raise DataError("it needs what is not here")


def test_a_metric_with_other_weights_than_in_the_run_is_named(folder, monkeypatch):
    monkeypatch.setattr("charpy_plugins.metrics.psnr.Psnr.fingerprint", lambda self: {"weights": "then"})
    path = run(folder, metrics=[{"kind": "psnr"}])
    assert found(path).verdict == "agrees"
    monkeypatch.setattr("charpy_plugins.metrics.psnr.Psnr.fingerprint", lambda self: {"weights": "now"})
    assert told(found(path)) == ["model: metric.psnr.weights: now / then"]


def test_a_run_of_an_older_schema_is_looked_at_and_its_bytes_are_not_verified(folder):
    older = folder / "older.charpy"
    with closing(sqlite3.connect(older, isolation_level=None)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        db.execute("ATTACH 'run.charpy' AS new")
        for table, columns in COLUMNS.items():
            db.execute(f"CREATE TABLE {table} AS SELECT {', '.join(columns)} FROM new.{table}")
    seen = found(older)
    assert (seen.verdict, told(seen)) == ("incomplete", [])
    assert missing(seen) == "bytes: a run file of an older schema has no digests"
    assert check(seen, "witnesses").checked > 20


def test_a_model_that_was_moved_is_found_by_its_name(folder):
    (folder / "a_model.py").rename(folder / "moved_model.py")
    try:
        seen = found(folder / "run.charpy", models={"a_model:scores": "moved_model:scores"})
    finally:
        sys.modules.pop("moved_model", None)
    assert told(seen) == ["model: a_model:scores: callable: moved_model:scores / a_model:scores"]


def test_units_of_a_norm_that_the_spec_has_not_are_named(folder):
    for table in ("units", "witnesses"):
        change = f"UPDATE {table} SET norm = 'l1' WHERE unit IN (SELECT MIN(unit) FROM witnesses)"
        forge(folder / "run.charpy", (change,))
    lines = told(found(folder / "run.charpy"))
    assert any(line.startswith("witnesses: units (") and "norm l1 / a norm of the spec" in line for line in lines)


def test_a_metric_that_is_no_number_agrees_with_itself_alone(folder):
    unit, sample, metrics = one("run.charpy", "SELECT unit, sample, metrics FROM witnesses LIMIT 1")
    forged = json.dumps({**json.loads(metrics), "l2": float("nan")})
    forge(
        folder / "run.charpy", ("UPDATE witnesses SET metrics = ? WHERE unit = ? AND sample = ?", forged, unit, sample)
    )
    (line,) = told(found(folder / "run.charpy"))
    assert f"witnesses (unit {unit}, sample {sample}): l2 " in line
    assert line.endswith(" / l2 nan, as stored")
    nan = float("nan")
    assert (_same(nan, nan), _same(nan, 1.0), _same(1.0, nan), _same(1.0, 1.0)) == (True, False, False, True)


def test_an_identity_with_more_than_the_spec_is_named(folder):
    forge(folder / "run.charpy", ("INSERT INTO identity VALUES ('spec.more', '1', X'00')",))
    assert told(found(folder / "run.charpy")) == ["records: identity (spec.more): 1 / (none)"]


def test_a_proof_of_a_smoothed_model_says_nothing_of_the_one_that_is_attacked(folder):
    sample, th = one("run.charpy", "SELECT sample, th FROM witnesses WHERE norm = 'linf' LIMIT 1")
    detail = json.dumps({"of": "the smoothed model"})
    forge(
        folder / "run.charpy",
        ("INSERT INTO proofs VALUES (1, 0, 'linf', ?, 'smooth', ?, 0.1, ?, X'00')", th, sample, detail),
        ("INSERT INTO proven VALUES (1, ?, 1, X'00')", sample),
    )
    seen = found(folder / "run.charpy")
    assert (told(seen), check(seen, "proofs and witnesses").agree) == ([], 1)
