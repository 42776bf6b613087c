"""The process that computes a run dies, hangs, eats memory or is told to stop: it costs a unit, not the evidence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from charpy.analysis.document import comparable
from charpy.errors import DataError, ModelError, WorkerError
from charpy.runfile import RunFile
from charpy.specs import LimitsSpec, RunSpec, parse
from charpy.supervisor import attempt, supervise

MODELS = """
import ctypes, os, signal, sys, time
import torch

def scores(images):
    middle = images.flatten(1).mean(1)
    return torch.stack([-10 * middle, 10 * (middle - 0.5)], 1) + 2.4

def on_a_white_corner(what):
    def model(images):
        if (images[:, :, 0, 0] == 1).any():
            what()
        return scores(images)
    return model

def hang():
    while True:
        time.sleep(0.1)

def eat():
    kept = []
    while True:
        kept.append(b"x" * 50_000_000)
        time.sleep(0.01)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

exits = on_a_white_corner(lambda: os._exit(0))
leaves = on_a_white_corner(lambda: sys.exit(0))
raises = on_a_white_corner(lambda: 1 / 0)
faults = on_a_white_corner(lambda: ctypes.string_at(0))
killed = on_a_white_corner(kill)
hangs = on_a_white_corner(hang)
eats = on_a_white_corner(eat)
at_once = lambda images: os._exit(0)

def chatty(images):
    print("a line that is no message")
    os.write(1, b"nor is this\\n")
    return scores(images)

def slow(images):
    time.sleep(0.02)
    return scores(images)
"""

SHADES = """
import numpy as np
rng = np.random.default_rng(0)
images = (rng.random((24, 1, 6, 6)) * 60 + 40).astype("uint8")
images[12:] += 100
images[:, :, 0, 0] = 0
np.savez("shades.npz", images=images, labels=np.repeat([0, 1], 12))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "models_that_end.py").write_text(MODELS, encoding="utf-8")
    subprocess.run([sys.executable, "-c", SHADES], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def spec_of(model, **more):
    return parse(
        RunSpec,
        {
            "data": {"kind": "npz", "params": {"path": "shades.npz"}},
            "models": [{"reference": f"models_that_end:{model}"}],
            "threats": [{"norm": "l0", "levels": [2], "battery": [{"kind": "corner_pixels", "queries": 60}]}],
            "shard": 24,
            **more,
        },
    )


def results(path):
    """Every result of a run, without what was measured."""
    with RunFile.open(path) as run:
        return [(key, attack, row) for key, attack, row in run.results(0)]


LIMITS = {"hangs": {"silent_seconds": 3.0}, "eats": {"memory_gib": 1.5}}

ENDINGS = {
    "exits": "exit code 0",
    "faults": "SIGSEGV",
    "killed": "SIGKILL",
    "hangs": "it hung: no sign of life for 3 s",
    "eats": "more than 1.5 GiB",
}


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "exits")) for name in ENDINGS],
)
def test_what_ends_the_process_costs_its_units_and_is_named(folder, model, monkeypatch):
    monkeypatch.setattr("charpy.supervisor.TRIES", 1)
    path = folder / "run.charpy"
    supervise(spec_of(model, limits=LIMITS.get(model, {})), path)
    with RunFile.open(path) as run:
        assert run.meta("finished")
        units = run.units(0)
        lost = [unit for unit in units if "failure" in unit["detail"]]
        assert lost
        assert all(unit["invalid"] == unit["attacked"] and ENDINGS[model] in unit["detail"]["failure"] for unit in lost)
        assert len(run.samples(0)) == 24


@pytest.mark.slow
def test_the_command_says_what_was_lost_and_never_exits_with_0(folder):
    command = "assess models_that_end:exits --data shades.npz --norms l0 --levels 2 --battery corner_pixels"
    done = program(folder, *command.split(), "--queries", "60", "--certify", "0", "--out", "out")
    assert done.returncode == 3
    assert "lost: corner_pixels (l0 th=2" in done.stdout
    assert "exit code 0" in done.stdout
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["lost"][0]["samples"] > 0
    assert "exit code 0" in (folder / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["leaves", "raises"])
def test_what_the_process_survives_is_lost_as_well(folder, model):
    command = f"assess models_that_end:{model} --data shades.npz --norms l0 --levels 2 --battery corner_pixels"
    done = program(folder, *command.split(), "--queries", "60", "--certify", "0", "--out", "out")
    assert done.returncode == 3
    assert "lost: corner_pixels" in done.stdout


@pytest.mark.slow
def test_a_model_that_cannot_even_be_tried_is_refused_by_name(folder):
    with pytest.raises(ModelError, match=r"models_that_end:at_once(.|\n)*exit code 0, twice"):
        supervise(spec_of("at_once"), folder / "run.charpy")
    assert not (folder / "run.charpy").exists()


def test_a_process_that_ends_before_it_reads_its_job_is_tried_again(monkeypatch):
    """What was not read is still in the pipe's buffer; to close it must not look like a reader of ours that left."""

    def gone(command, **options):
        process = begin([sys.executable, "-c", ""], **options)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process

    begin = subprocess.Popen
    monkeypatch.setattr("charpy.supervisor.subprocess.Popen", gone)
    end = attempt({"task": "run"}, LimitsSpec())
    assert end is not None
    assert (end.stage.kind, end.why) == ("open", "it ended itself with exit code 0")


def test_what_the_evaluator_refuses_arrives_as_the_error_that_it_is(folder):
    with pytest.raises(DataError, match="more samples are asked for") as caught:
        supervise(
            spec_of("slow", data={"kind": "npz", "params": {"path": "shades.npz"}, "samples": 99}),
            folder / "run.charpy",
        )
    assert (caught.value.found, caught.value.expected) == ("99", "at most 24")


@pytest.mark.slow
def test_a_crash_of_the_evaluator_is_4(folder):
    broken = "import charpy.evaluator\ndef broken(*a, **k): 1 / 0\ncharpy.evaluator.evaluate = broken\n"
    (folder / "sitecustomize.py").write_text(broken, encoding="utf-8")
    with pytest.raises(WorkerError, match="ZeroDivisionError: division by zero") as caught:
        supervise(spec_of("slow"), folder / "run.charpy")
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_another_process_gives_the_same_results_as_this_one(folder):
    from charpy.evaluator import evaluate

    supervise(spec_of("slow"), folder / "there.charpy")
    evaluate(spec_of("slow"), folder / "here.charpy")
    assert results(folder / "there.charpy") == results(folder / "here.charpy")


@pytest.mark.slow
def test_prints_of_a_model_are_no_messages_and_no_results(folder):
    command = "assess models_that_end:chatty --data shades.npz --norms l0 --levels 2 --battery corner_pixels"
    done = program(folder, *command.split(), "--queries", "20", "--certify", "0", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "no message" in done.stderr
    assert "no message" not in done.stdout
    assert "nor is this" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_both_processes_and_the_same_command_goes_on(folder, number, code):
    command = "assess models_that_end:slow --data shades.npz --norms l0 --levels 2 --battery corner_pixels"
    arguments = [*command.split(), "--queries", "20", "--certify", "0"]
    process = start(folder, *arguments, "--out", "out")
    child = child_of(process, folder / "out" / "run.charpy")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "goes on from here" in err
    assert "Traceback" not in err
    assert not out
    psutil.wait_procs([child], timeout=15)
    assert not child.is_running()
    assert program(folder, *arguments, "--out", "out").returncode == 0
    assert program(folder, *arguments, "--out", "fresh").returncode == 0
    one, other = (json.loads((folder / out / "report.json").read_text(encoding="utf-8")) for out in ("out", "fresh"))
    assert comparable(one) == comparable(other)


def test_the_computing_process_does_not_outlive_a_killed_supervisor(folder):
    command = "assess models_that_end:slow --data shades.npz --norms l0 --levels 2 --battery corner_pixels"
    process = start(folder, *command.split(), "--queries", "5000", "--certify", "0", "--out", "out")
    child = child_of(process, folder / "out" / "run.charpy")
    process.kill()
    process.communicate(timeout=60)
    psutil.wait_procs([child], timeout=15)
    assert not child.is_running()


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, environment = line(arguments)
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command, environment = line(arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=folder, env=environment, **pipes)


def line(arguments: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    environment = {key: value for key, value in os.environ.items() if key != "CHARPY_SUPERVISE"}
    return [sys.executable, "-m", "charpy", *arguments], {**environment, "COLUMNS": "150"}


def child_of(process: subprocess.Popen[str], path: Path) -> psutil.Process:
    """The process that computes, once it writes."""
    deadline = time.monotonic() + 300  # for its start, on a busy machine
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children()
        if children and path.exists():
            return children[0]
        time.sleep(0.02)
    raise AssertionError("no run file after five minutes")
