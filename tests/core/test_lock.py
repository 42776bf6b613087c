"""One writer at a time: who holds the lock is named, and no dead process holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from io import FileIO

import pytest

from charpy.errors import RunFileError
from charpy.lock import only_writer

HOLDER = """
import sys, time
from pathlib import Path
from charpy.lock import only_writer

with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_process_that_holds_it_is_named_and_a_killed_one_holds_it_no_more(tmp_path):
    path = tmp_path / "run.charpy"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunFileError) as refused, only_writer(path):
            pytest.fail("two writers")
        assert (refused.value.what, refused.value.where) == ("another process is writing this run", str(path))
        assert refused.value.found == f"process {other.pid}"
        assert "wait until it has ended" in refused.value.hint
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / "run.charpy.lock").read_text() == str(other.pid)  # it could not clean up, and need not
    with only_writer(path):
        assert (tmp_path / "run.charpy.lock").read_text() == str(os.getpid())
    assert not (tmp_path / "run.charpy.lock").exists()


def test_it_goes_when_what_was_done_under_it_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "run.charpy"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with only_writer(tmp_path / "run.charpy"):
        pass


def test_a_holder_that_has_not_written_its_number_yet_is_unknown(tmp_path):
    with FileIO(tmp_path / "run.charpy.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunFileError, match=r"process \(unknown\)"), only_writer(tmp_path / "run.charpy"):
            pytest.fail("two writers")


def test_where_nothing_can_be_written_is_said(tmp_path):
    path = tmp_path / "no such folder" / "run.charpy"
    with pytest.raises(RunFileError) as refused, only_writer(path):
        pytest.fail("nothing can be written there")
    assert (refused.value.where, refused.value.found) == (str(path), os.strerror(errno.ENOENT))
    assert "give another --out" in refused.value.hint


def test_a_full_disk_is_said_and_leaves_no_lock(tmp_path, full_disk):
    with full_disk(0), pytest.raises(RunFileError, match="cannot be written"), only_writer(tmp_path / "r"):
        pytest.fail("nothing can be written there")
    assert not list(tmp_path.iterdir())


def test_where_the_system_knows_no_locks_a_run_is_written_without_one(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with only_writer(tmp_path / "run.charpy"):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("another", [False, True])
def test_a_lock_that_was_taken_away_before_it_was_held_is_no_lock(tmp_path, monkeypatch, another):
    """The holder removes its lock between our opening and our locking; perhaps a third one has made a new one."""
    path, lock, real = tmp_path / "run.charpy", tmp_path / "run.charpy.lock", fcntl.flock
    third = []

    def late(file, how):
        if not third:
            lock.unlink()
            third.append(lock.open("a+", encoding="utf-8") if another else None)
            if another:
                third[0].write("4711")
                third[0].flush()
                real(third[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    if another:
        with pytest.raises(RunFileError, match="process 4711"), only_writer(path):
            pass
        third[0].close()
    else:
        with only_writer(path), pytest.raises(RunFileError, match="another process"), only_writer(path):
            pass
