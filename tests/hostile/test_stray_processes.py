"""Code that forks, leaves processes behind, is told to end, or raises what nobody expects: nothing hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from charpy.errors import LONGEST_TOLD, told_of
from charpy.specs import LimitsSpec
from charpy.stages import Stage
from charpy.supervisor import End, attempt

EVALUATOR = """
import os, signal, stat, sys, time, types
from pathlib import Path
from charpy.stages import Progress, Stage

def left_behind(seconds=1000):
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    Path("child").write_text(str(child))

def leaves(watch, listen):
    left_behind()

def leaves_and_dies(watch, listen):
    left_behind()
    os.kill(os.getpid(), signal.SIGKILL)

def waits(watch, listen):
    left_behind()
    time.sleep(1000)

def comes_back(watch, listen):
    if os.fork():
        time.sleep(3)
        raise ValueError("the first of the two")
    listen(Progress(1, 1, 0.0, "the second of the two"))

def terminated(watch, listen):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    except (Exception, SystemExit):
        pass  # as where a stranger's code raises it

def deaf(watch, listen):
    os.closerange(3, 256)
    try:
        listen(Progress(1, 2, 0.0, "nobody hears this"))
    except Exception:
        pass  # as where an attack asks the oracle: what it raises would be its own failure
    time.sleep(1000)

def junk(watch, listen):
    for number in range(3, 30):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, b'no message\\n[1]\\n3\\n"done"\\n\\xff\\xfe\\n{"other": 1}\\n')
        except OSError:
            pass

class Weird(BaseException):
    def __str__(self):
        raise RuntimeError("no text")

def long(watch, listen):
    raise GeneratorExit("x" * 5_000_000)

def without_text(watch, listen):
    raise Weird

def evaluate(spec, path, *, listen, watch):
    watch.enter(Stage("unit", "a unit"))
    globals()[Path("what").read_text()](watch, listen)

module = types.ModuleType("charpy.evaluator")
module.evaluate = evaluate
sys.modules["charpy.evaluator"] = module
"""
"""Takes the place of the evaluator, in the other process."""

UNIT = Stage("unit", "a unit")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(EVALUATOR, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


JOB = {
    "task": "run",
    "spec": {"data": {"kind": "digits"}, "models": [{"reference": "digits-cnn"}]},
    "path": "run.charpy",
}


def ended(what: str) -> tuple[End | None, list[str], float]:
    """How the process ended, what it said of its progress, and how long that took."""
    Path("what").write_text(what, encoding="utf-8")
    titles: list[str] = []
    began = time.monotonic()
    end = attempt(JOB, LimitsSpec(), lambda now: titles.append(now.title))
    return end, titles, time.monotonic() - began


def gone(path: Path) -> bool:
    """Whether the process whose number stands in a file has ended, or does so soon."""
    number = int(path.read_text(encoding="utf-8"))
    for _ in range(100):
        if not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_a_process_that_is_left_behind_holds_up_nothing_and_goes(folder):
    end, _, seconds = ended("leaves")
    assert end is None
    assert seconds < 300
    assert gone(folder / "child")


def test_a_process_that_outlives_the_one_that_died_does_not_hide_its_death(folder):
    """It holds the same pipe open, and the lock of the run file, which the next try needs."""
    end, _, seconds = ended("leaves_and_dies")
    assert end == End(UNIT, "it was killed by SIGKILL")
    assert seconds < 300
    assert gone(folder / "child")


def test_what_is_left_behind_goes_with_a_killed_supervisor_too(folder):
    (folder / "what").write_text("waits", encoding="utf-8")
    code = "import json, sys; from charpy.supervisor import *; attempt(json.loads(sys.argv[1]), LimitsSpec())"
    supervisor = subprocess.Popen([sys.executable, "-c", code, json.dumps(JOB)], cwd=folder)
    for _ in range(600):
        if (folder / "child").exists() and (folder / "child").read_text(encoding="utf-8"):
            break
        time.sleep(0.1)
    supervisor.kill()
    supervisor.wait()
    assert gone(folder / "child")


def test_a_fork_that_comes_back_is_no_second_evaluator(folder):
    end, titles, _ = ended("comes_back")
    assert end == End(UNIT, "it raised ValueError: the first of the two")
    assert not titles


def test_sigterm_ends_it_even_where_a_strangers_sys_exit_would_not(folder):
    assert ended("terminated")[0] == End(UNIT, "it ended itself with exit code 143")


def test_an_end_of_the_pipe_is_no_failure_of_what_is_computed(folder):
    assert ended("deaf")[0] == End(UNIT, "it ended itself with exit code 4")


def test_what_a_stranger_writes_into_the_pipe_is_no_message(folder):
    assert ended("junk")[0] is None


def test_the_text_of_an_error_is_short_and_always_there(folder):
    end, _, _ = ended("long")
    assert end is not None
    assert end.why.startswith("it raised GeneratorExit: xxx")
    assert len(end.why) < 600
    assert ended("without_text")[0] == End(UNIT, "it raised Weird: (an error whose text cannot be made)")


def test_errors_in_words():
    assert told_of(ValueError("  why ")) == "ValueError: why"
    assert told_of(ValueError()) == "ValueError"
    assert told_of(ValueError("a\udc80b")) == "ValueError: a\\udc80b"
    assert told_of(ValueError("x" * LONGEST_TOLD)) == "ValueError: " + "x" * LONGEST_TOLD
    assert told_of(ValueError("x" * 10**6)) == "ValueError: " + "x" * LONGEST_TOLD + "..."
