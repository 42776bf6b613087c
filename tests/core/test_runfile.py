"""The run file: whole units, refused strangers, named differences."""

from __future__ import annotations

import os
import sqlite3

import pytest

from charpy.errors import IdentityError, RunFileError
from charpy.outcome import Outcome
from charpy.records import ProofKey, ProofRecord, ResultRow, SampleRow, UnitKey, UnitRecord, WitnessRow
from charpy.runfile import RunFile

KEY = UnitKey(0, "l0", 3, 0, 0)


NEAR = WitnessRow(1, 2.0, 7, b"image", {"l2": 3.5})


def record(key=KEY, witnesses=(NEAR,)):
    results = [ResultRow(1, Outcome.BROKEN, 40, 12), ResultRow(2, Outcome.HELD, 100)]
    return UnitRecord(
        key=key, attack="few", kind="few_pixel", rows=140, seconds=0.5, detail={"queries": 100}, results=results,
        witnesses=list(witnesses), originals={1: b"original"}, rejected={2: "off the grid"},
    )  # fmt: skip


def test_what_is_written_is_what_is_read(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {"seed": 1}, {"spec.seed": "1"}) as run:
        run.write_samples(0, [SampleRow(1, "a", 3, 3, True), SampleRow(2, "b", 4, None, False)])
        run.write_unit(record())
    with RunFile.open(tmp_path / "run.charpy") as run:
        assert run.spec == {"seed": 1}
        assert run.finished() == {KEY}
        assert run.samples(0)[1] == SampleRow(2, "b", 4, None, False)
        (unit,) = run.units(0)
        assert (unit["attacked"], unit["broken"], unit["held"], unit["rejected"]) == (2, 1, 1, 1)
        assert (unit["queries_sum"], unit["queries_max"]) == (140, 100)
        (witness,) = run.witnesses(0, "l0")
        assert (witness.image, witness.metrics, witness.queries_to_success) == (b"image", {"l2": 3.5}, 12)
        assert run.original(1) == b"original"
        assert run.distances_of(KEY) == {1: 2.0}
        assert run.rejected(0) == [{"norm": "l0", "th": 3, "attack": "few", "sample": 2, "reason": "off the grid"}]


def test_a_unit_is_written_whole_or_not_at_all(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        twice = WitnessRow(1, 2.0, 7, b"image")
        with pytest.raises(sqlite3.IntegrityError):
            run.write_unit(record(witnesses=(twice, twice)))
        assert run.finished() == set()
        assert run.units(0) == []
        run.write_unit(record())
        with pytest.raises(sqlite3.IntegrityError):
            run.write_unit(record())
        assert len(run.units(0)) == 1


@pytest.mark.parametrize("how", ["deleted", "replaced", "forked"])
def test_what_is_not_its_own_file_any_more_is_not_written(tmp_path, monkeypatch, how):
    """SQLite would go on writing into a file that nobody finds, and two processes into one."""
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {}, {}) as run:
        if how == "forked":
            monkeypatch.setattr(os, "getpid", lambda: 4711)
        else:
            path.rename(tmp_path / "elsewhere")
            if how == "replaced":
                path.write_bytes((tmp_path / "elsewhere").read_bytes())
        with pytest.raises(RunFileError, match="a fork of" if how == "forked" else "deleted or replaced"):
            run.write_unit(record())
        monkeypatch.undo()
        if how != "forked":
            (tmp_path / "elsewhere").rename(path)
        run.write_unit(record())


def test_only_the_nearest_witness_of_each_sample_when_asked(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        run.write_unit(record())
        run.write_unit(record(KEY._replace(th=5), (WitnessRow(1, 1.0, 8, b"nearer"),)))
        assert [w.image for w in run.witnesses(0, smallest=True)] == [b"nearer"]
        assert len(list(run.witnesses(0))) == 2
        assert list(run.witnesses(0, "linf")) == []


def test_a_changed_identity_is_refused_with_every_difference_named(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {"spec.seed": "1", "model.a.weights": "x"}) as run:
        run.check_identity({"spec.seed": "1", "model.a.weights": "x"})
        with pytest.raises(IdentityError, match=r"model\.a\.weights: x -> y; plugin\.attacks/z: \(none\) -> p 1"):
            run.check_identity({"spec.seed": "1", "model.a.weights": "y", "plugin.attacks/z": "p 1"})


def test_an_existing_file_is_never_overwritten(tmp_path):
    RunFile.create(tmp_path / "run.charpy", {}, {}).close()
    with pytest.raises(RunFileError, match="a file is there already"):
        RunFile.create(tmp_path / "run.charpy", {}, {})


def test_strangers_files_are_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.charpy"
    text.write_text("not a database")
    other = tmp_path / "other.charpy"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    newer = tmp_path / "newer.charpy"
    RunFile.create(newer, {}, {}).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    for path, message in ((text, "not a charpy run file"), (other, "another SQLite file"), (newer, "version 999")):
        before = path.read_bytes()
        with pytest.raises(RunFileError, match=message):
            RunFile.open(path)
        assert path.read_bytes() == before
    with pytest.raises(RunFileError, match="no such run file"):
        RunFile.open(tmp_path / "missing.charpy")


def test_a_kill_right_after_creation_leaves_a_run_that_knows_its_spec(tmp_path, monkeypatch):
    monkeypatch.setattr(RunFile, "set_meta", lambda *_, **__: pytest.fail("the spec must be there before the rename"))
    RunFile.create(tmp_path / "run.charpy", {"seed": 4}, {}).close()
    with RunFile.open(tmp_path / "run.charpy") as run:
        assert run.spec == {"seed": 4}


def test_samples_and_what_was_learnt_of_the_data_are_written_together_or_not_at_all(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        with pytest.raises(TypeError):
            run.write_samples(0, [SampleRow(1, "a", 3, 3, True)], dataset=object())
        assert run.samples(0) == []
        run.write_samples(0, [SampleRow(1, "a", 3, 3, True)], dataset={"name": "d"})
        assert (len(run.samples(0)), run.meta("dataset")) == (1, {"name": "d"})


def test_what_a_dead_creation_left_is_not_taken_over(tmp_path):
    for name in ("run.charpy-wal", "run.charpy-shm", "run.charpy.partial", "run.charpy.partial-journal"):
        (tmp_path / name).write_bytes(b"left over")
    with RunFile.create(tmp_path / "run.charpy", {"seed": 4}, {}) as run:
        assert run.spec == {"seed": 4}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.charpy"]


def test_a_removed_run_leaves_nothing(tmp_path):
    run = RunFile.create(tmp_path / "run.charpy", {}, {})
    run.write_unit(record())
    run.remove()
    assert not list(tmp_path.iterdir())


def test_an_original_that_was_never_stored_is_named(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        run.write_unit(record())
        with pytest.raises(RunFileError, match="no original stored for sample 2"):
            run.original(2)


def test_results_and_witnesses_of_one_sample_or_attack(tmp_path):
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        run.write_unit(record())
        run.write_unit(record(KEY._replace(th=5), (WitnessRow(1, 4.0, 8, b"farther", {"l2": 9.0}),)))
        assert [(key.th, row.sample) for key, _, row in run.results(0)] == [(3, 1), (3, 2), (5, 1), (5, 2)]
        assert [(key.th, row.sample) for key, _, row in run.results(0, sample=2)] == [(3, 2), (5, 2)]
        assert list(run.results(1)) == []
        assert [witness.th for witness in run.witnesses(0, sample=1)] == [3, 5]
        assert run.witness_distances(0, "l0") == [(1, 3, 2.0), (1, 5, 4.0)]
        assert list(run.witness_steps(0)) == [("l0", 0, 3, 1, 2.0), ("l0", 0, 5, 1, 4.0)]
        assert run.nearest_of(0, "few") == [("l0", 1, 2.0)]
        assert run.nearest_of(0, "many") == []
        assert [(row.th, row.metrics) for row in run.witness_metrics(0)] == [(3, {"l2": 3.5}), (5, {"l2": 9.0})]


def test_proofs_are_read_back_call_by_call(tmp_path):
    first, second = ProofKey(0, "l0", 1, "sure", 0), ProofKey(0, "l0", 1, "sure", 6)
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        run.write_proof(ProofRecord(first, 0.25, {"arithmetic": "real"}, {0: True, 1: False}))
        run.write_proof(ProofRecord(second, 0.5, {"arithmetic": "real"}, {6: True}))
        assert run.proofs_finished() == {first, second}
        assert run.proof_of(first) == {0: True, 1: False}
        assert [(proof.key, proof.seconds, proof.proven) for proof in run.proofs(0)] == [
            (first, 0.25, {0: True, 1: False}),
            (second, 0.5, {6: True}),
        ]
        assert run.proofs(1) == []
        with pytest.raises(sqlite3.IntegrityError):
            run.write_proof(ProofRecord(first, 0.25, {}, {2: True}))
        assert run.proof_of(first) == {0: True, 1: False}
