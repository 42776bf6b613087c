"""What happens to the bytes of a run file is noticed: bit flips, torn tails, older schemas, full disks."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from charpy.errors import RunFileError
from charpy.outcome import Outcome
from charpy.records import ProofKey, ProofRecord, ResultRow, SampleRow, UnitKey, UnitRecord, WitnessRow
from charpy.runfile import RunFile
from charpy.runfile.schema import COLUMNS

FLIPS = 1000

WAL_HEADER, FRAME = 32, 24 + 4096
"""Bytes of SQLite's write-ahead log: its head, and one page of it."""

OLD_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE identity (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE samples (model INTEGER, sample INTEGER, id TEXT NOT NULL, label INTEGER NOT NULL,
    prediction INTEGER, valid INTEGER NOT NULL, PRIMARY KEY (model, sample)) WITHOUT ROWID;
CREATE TABLE originals (sample INTEGER PRIMARY KEY, image BLOB NOT NULL);
CREATE TABLE units (unit INTEGER PRIMARY KEY, model INTEGER NOT NULL, norm TEXT NOT NULL, th INTEGER NOT NULL,
    step INTEGER NOT NULL, shard INTEGER NOT NULL, round INTEGER NOT NULL, attack TEXT NOT NULL, kind TEXT NOT NULL,
    rows INTEGER NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL,
    UNIQUE (model, norm, th, step, shard, round));
CREATE TABLE results (unit INTEGER NOT NULL REFERENCES units, sample INTEGER NOT NULL, outcome TEXT NOT NULL,
    queries INTEGER NOT NULL, queries_to_success INTEGER, reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (unit, sample)) WITHOUT ROWID;
CREATE TABLE witnesses (unit INTEGER NOT NULL REFERENCES units, model INTEGER NOT NULL, sample INTEGER NOT NULL,
    norm TEXT NOT NULL, th INTEGER NOT NULL, distance REAL NOT NULL, prediction INTEGER NOT NULL,
    image BLOB NOT NULL, metrics TEXT NOT NULL, PRIMARY KEY (unit, sample)) WITHOUT ROWID;
CREATE TABLE proofs (proof INTEGER PRIMARY KEY, model INTEGER NOT NULL, norm TEXT NOT NULL, th INTEGER NOT NULL,
    certifier TEXT NOT NULL, first INTEGER NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL,
    UNIQUE (model, norm, th, certifier, first));
CREATE TABLE proven (proof INTEGER NOT NULL REFERENCES proofs, sample INTEGER NOT NULL, holds INTEGER NOT NULL,
    PRIMARY KEY (proof, sample)) WITHOUT ROWID;
CREATE TABLE rejected (unit INTEGER NOT NULL REFERENCES units, sample INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (unit, sample)) WITHOUT ROWID;
"""


def unit(number: int, samples: int = 12) -> UnitRecord:
    """A unit whose first half is broken."""
    rng = np.random.default_rng(number)
    broken = range(samples // 2)
    return UnitRecord(
        UnitKey(0, "l0", number + 1, 0, 0), "few", "few_pixel", rows=140, seconds=0.5, detail={"queries": 100},
        results=[ResultRow(s, Outcome.BROKEN if s in broken else Outcome.HELD, 40 + s, 12) for s in range(samples)],
        witnesses=[WitnessRow(s, 1.0 + s, 7, rng.bytes(90), {"l2": 3.5}) for s in broken],
        originals={s: bytes([s]) * 90 for s in broken},
        rejected={samples - 1: "off the grid"},
    )  # fmt: skip


def fill(run: RunFile, units: int) -> None:
    """Samples, units and a proof."""
    run.write_samples(0, [SampleRow(s, f"digit {s}", s % 3, s % 3, True) for s in range(12)], dataset={"name": "x"})
    for number in range(units):
        run.write_unit(unit(number))
    run.write_proof(ProofRecord(ProofKey(0, "l0", 1, "sure", 6), 0.25, {"arithmetic": "real"}, {6: True, 7: False}))


def content(path: Path) -> dict[str, list[tuple]]:
    """Every row of every table, read by SQLite alone."""
    with sqlite3.connect(path) as db:
        found = {
            table: db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            for table, columns in COLUMNS.items()
        }
    db.close()
    return found


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "run.charpy"
    run = RunFile.create(path, {"seed": 1}, {"spec.seed": "1"})
    fill(run, 5)
    run.set_meta(finished=True)
    run.seal()
    return path


def test_every_one_of_a_thousand_bit_flips_in_a_finished_run_is_noticed(finished):
    data, rng = finished.read_bytes(), np.random.default_rng(0)
    missed = []
    for _ in range(FLIPS):
        place, bit = int(rng.integers(len(data))), int(rng.integers(8))
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        finished.write_bytes(changed)
        try:
            RunFile.open(finished).close()
        except RunFileError:
            continue
        missed.append((place, bit))
    assert not missed
    finished.write_bytes(data)
    RunFile.open(finished).close()


def test_a_changed_record_is_named(finished):
    data = finished.read_bytes()
    place = data.index(b"digit 7")
    finished.write_bytes(data[:place] + b"digit 9" + data[place + 7 :])
    with pytest.raises(RunFileError, match=r"other content in samples \(model 0, sample 7\)"):
        RunFile.open(finished)
    image = unit(2).witnesses[3].image
    place = data.index(image) + 40
    finished.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    with pytest.raises(RunFileError, match=r"other content in witnesses \(unit 3, model 0, sample 3\)$|\(unit 3"):
        RunFile.open(finished)


def test_what_is_changed_through_sqlite_is_noticed_too(finished):
    with sqlite3.connect(finished) as db:
        db.execute("UPDATE results SET outcome = 'broken' WHERE unit = 1 AND sample = 9")
    db.close()
    with pytest.raises(RunFileError, match=r"results \(unit 1, sample 9\)"):
        RunFile.open(finished)


def test_a_deleted_record_is_noticed_by_the_seal(finished):
    with sqlite3.connect(finished) as db:
        db.execute("DELETE FROM witnesses WHERE unit = 1")
    db.close()
    with pytest.raises(RunFileError, match="other bytes of the file"):
        RunFile.open(finished)


def test_a_flip_in_an_unfinished_run_is_noticed_or_changes_nothing_that_is_read(tmp_path):
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {"seed": 1}, {}) as run:
        fill(run, 3)
    data, truth, rng = path.read_bytes(), content(path), np.random.default_rng(1)
    noticed = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            RunFile.open(path).close()
        except RunFileError:
            noticed += 1
            continue
        assert content(path) == truth
    assert noticed > 10  # the others lie where nothing is stored


@pytest.mark.parametrize("every", [211, pytest.param(1, marks=pytest.mark.slow)])
def test_a_tail_torn_at_any_byte_loses_whole_units_at_most_and_the_run_goes_on(tmp_path, every):
    path = tmp_path / "run.charpy"
    run = RunFile.create(path, {"seed": 1}, {})
    run.write_samples(0, [SampleRow(s, str(s), 0, 0, True) for s in range(12)])
    log = path.with_name("run.charpy-wal")
    run._db.execute("PRAGMA wal_autocheckpoint = 0")
    run._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(2):
        run.write_unit(unit(number))
    data, tail = path.read_bytes(), log.read_bytes()
    run.close()
    torn = tmp_path / "torn" / "run.charpy"
    torn.parent.mkdir()
    seen = set()
    frames = range(WAL_HEADER, len(tail), FRAME)
    edges = {frame + near for frame in frames for near in range(-2, 3)}
    for length in sorted({*edges, *range(1, len(tail), every)} - {len(tail)}, reverse=True):
        torn.write_bytes(data)
        torn.with_name(log.name).write_bytes(tail[:length])
        torn.with_name("run.charpy-shm").unlink(missing_ok=True)
        with RunFile.open(torn) as found:
            units = [row["th"] for row in found.units(0)]
            assert units in ([], [1])
            assert all(row["attacked"] == 12 and row["rejected"] == 1 for row in found.units(0))
            seen.add(len(units))
    assert seen == {0, 1}
    with RunFile.open(torn) as found:  # the last one, torn most: it goes on
        for number in range(2):
            found.write_unit(unit(number))
        assert len(found.units(0)) == 2


def test_a_file_cut_short_is_refused(finished):
    data = finished.read_bytes()
    for length in (0, 50, 99, 100, 4096, 5000, len(data) - 4096, len(data) - 1):
        finished.write_bytes(data[:length])
        with pytest.raises(RunFileError):
            RunFile.open(finished)


def test_an_older_schema_is_read_through_a_copy_and_never_touched(tmp_path):
    new = tmp_path / "new.charpy"
    with RunFile.create(new, {"seed": 1}, {"spec.seed": "1"}) as run:
        fill(run, 4)
        expected = (run.units(0), list(run.results(0)), list(run.witnesses(0)), run.proofs(0), run.rejected(0))
    rows = content(new)
    old = tmp_path / "old.charpy"
    with sqlite3.connect(old) as db:
        db.executescript(f"PRAGMA application_id = {0x43685079}; PRAGMA user_version = 2; {OLD_SCHEMA}")
        for table, values in rows.items():
            if values:
                db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values[0]))})", values)
    db.close()
    before = old.read_bytes()
    with RunFile.open(old) as run:
        assert (run.units(0), list(run.results(0)), list(run.witnesses(0)), run.proofs(0), run.rejected(0)) == expected
        assert run.spec == {"seed": 1}
        with pytest.raises(RunFileError, match="cannot be written"):
            run.set_meta(more=1)
    assert old.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new.charpy", "old.charpy"]
    with sqlite3.connect(old) as db:
        db.execute("DROP TABLE proven")
    db.close()
    with pytest.raises(RunFileError, match=r"or is damaged(.|\n)*proven is not there"):
        RunFile.open(old)


def test_a_full_disk_ends_cleanly_and_what_was_written_stays(tmp_path):
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {"seed": 1}, {}) as run:
        fill(run, 2)
        pages = run._db.execute("PRAGMA page_count").fetchone()[0]
        run._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        units = (unit(number) for number in range(2, 40))
        with pytest.raises(RunFileError, match=r"cannot be written(.|\n)*full(.|\n)*same command goes on"):
            list(map(run.write_unit, units))
        held = [row["th"] for row in run.units(0)]
    with RunFile.open(path) as run:
        assert [row["th"] for row in run.units(0)] == held
        assert all(row["attacked"] == 12 for row in run.units(0))
        run.write_unit(unit(30))


def test_a_disk_that_is_full_from_the_start_is_said_and_leaves_nothing(tmp_path, full_disk):
    for size in (0, 4096, 30_000):
        with full_disk(size), pytest.raises(RunFileError) as refused:
            RunFile.create(tmp_path / "run.charpy", {"seed": 1}, {})
        assert (refused.value.what, refused.value.where) == (
            "the run file cannot be written",
            str(tmp_path / "run.charpy"),
        )
        assert "make room" in refused.value.hint
        assert [entry.name for entry in tmp_path.iterdir() if not entry.name.endswith("-journal")] == []
    RunFile.create(tmp_path / "run.charpy", {"seed": 1}, {}).close()


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_run_that_cannot_be_read_on_a_full_disk_is_not_called_damaged(tmp_path, full_disk, size):
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {"seed": 1}, {}) as run:
        fill(run, 2)
    before = path.read_bytes()
    with full_disk(size), pytest.raises(RunFileError) as refused:
        RunFile.open(path)
    assert (type(refused.value), refused.value.what) == (RunFileError, "the run file cannot be read")
    assert "its folder needs room" in refused.value.hint
    assert path.read_bytes() == before
    with RunFile.open(path) as run:
        assert len(run.units(0)) == 2


def test_a_run_that_another_program_locks_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {"seed": 1}, {}) as run:
        fill(run, 1)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **{**named, "timeout": 0.1}))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunFileError, match=r"cannot be read(.|\n)*database is locked"):
            RunFile.open(path)
    RunFile.open(path).close()


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RunFileError, match="cannot be written"):
        RunFile.create(tmp_path / "gone" / "run.charpy", {"seed": 1}, {})


def test_a_file_that_another_program_holds_is_said_and_whole(tmp_path):
    path = tmp_path / "run.charpy"
    with RunFile.create(path, {"seed": 1}, {}) as run, closing(sqlite3.connect(path, isolation_level=None)) as other:
        fill(run, 1)
        run._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunFileError, match=r"cannot be written(.|\n)*locked"):
            run.write_unit(unit(1))
        other.execute("ROLLBACK")
        assert [row["th"] for row in run.units(0)] == [1]
        run.write_unit(unit(1))


READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
print(db.execute("SELECT COUNT(*) FROM units").fetchone()[0], flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_reads_when_it_ends_loses_nothing(tmp_path):
    path = tmp_path / "run.charpy"
    run = RunFile.create(path, {"seed": 1}, {})
    fill(run, 2)
    reading = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(reading, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "2\n"
        run.write_unit(unit(2))
        run.set_meta(finished=True)
        run._db.execute("PRAGMA busy_timeout = 100")  # 5 s otherwise
        run.seal()
        with RunFile.open(path) as found:
            assert (len(found.units(0)), found.meta("finished"), found.protected) == (3, True, "rows")
        reader.stdin.close()
    with RunFile.open(path) as found:
        assert len(found.units(0)) == 3
        found.seal()
    with RunFile.open(path) as found:
        assert (len(found.units(0)), found.meta("finished"), found.protected) == (3, True, "seal")


def test_a_run_that_is_open_but_not_being_read_is_sealed(tmp_path):
    path = tmp_path / "run.charpy"
    run = RunFile.create(path, {"seed": 1}, {})
    fill(run, 2)
    with closing(sqlite3.connect(path)) as idle:
        assert idle.execute("SELECT COUNT(*) FROM units").fetchall() == [(2,)]
        run.seal()
    with RunFile.open(path) as found:
        assert (len(found.units(0)), found.protected) == (2, "seal")


def test_of_many_changed_records_the_first_are_named_and_the_others_counted(finished):
    with closing(sqlite3.connect(finished)) as db, db:
        db.execute("UPDATE results SET queries = 1 WHERE unit = 2 AND sample < 8")
    with pytest.raises(RunFileError, match=r"results \(unit 2, sample 4\), and 3 more"):
        RunFile.open(finished)


def test_a_disk_that_is_full_at_the_end_costs_the_seal_alone(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("charpy.runfile.runfile.seal", full)
    with RunFile.create(tmp_path / "run.charpy", {}, {}) as run:
        fill(run, 2)
        with pytest.raises(RunFileError, match=r"cannot be written(.|\n)*No space"):
            run.seal()
    with RunFile.open(tmp_path / "run.charpy") as run:
        assert len(run.units(0)) == 2


def test_a_finished_run_is_read_where_nothing_can_be_written(finished, tmp_path):
    place = tmp_path / "shelf"
    place.mkdir()
    shutil.copy(finished, place / "run.charpy")
    (place / "run.charpy").chmod(0o444)
    place.chmod(0o555)
    try:
        with RunFile.open(place / "run.charpy") as run:
            assert len(run.units(0)) == 5
            assert os.listdir(place) == ["run.charpy"]
    finally:
        place.chmod(0o755)


def test_reading_changes_no_byte(finished):
    before = finished.read_bytes()
    with RunFile.open(finished) as run:
        list(run.witnesses(0))
    assert finished.read_bytes() == before
    assert [entry.name for entry in finished.parent.iterdir()] == ["run.charpy"]
