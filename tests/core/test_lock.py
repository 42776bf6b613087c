"""The lock of a run file: one writer, named; what its holder takes away keeps nobody out and lets nobody in twice."""

from __future__ import annotations

import fcntl
import os

import pytest

from charpy.errors import RunFileError
from charpy.lock import only_writer


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path):
    path = tmp_path / "run.charpy"
    with only_writer(path):
        with pytest.raises(RunFileError, match=f"process {os.getpid()}"), only_writer(path):
            pass
        assert (tmp_path / "run.charpy.lock").read_text(encoding="utf-8") == str(os.getpid())
    assert not list(tmp_path.iterdir())
    with only_writer(path):
        pass


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
