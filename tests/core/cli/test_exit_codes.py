"""Every way in which `charpy` can end, and the exit code of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charpy.analysis.document import comparable

COMMANDS = """
    import sys

    def charpy_commands():
        return {name: globals()[name] for name in ("passes", "answers", "crashes", "leaves", "stops", "prints", "gate")}

    def passes() -> None:
        '''Returns nothing.'''

    def answers(code: int, /) -> int:
        '''Returns its argument.'''
        return code

    def gate() -> bool:
        '''Returns a truth value.'''
        return True

    def crashes() -> None:
        '''Raises.'''
        raise ValueError("boom \\x1b[31m\\u202e")

    def leaves() -> None:
        '''Pretends that all is well.'''
        sys.exit(0)

    def stops() -> None:
        '''As if the user had pressed Ctrl-C.'''
        raise KeyboardInterrupt

    def prints() -> None:
        '''More than a pipe holds.'''
        for _ in range(100_000):
            print("a line of a result")
"""


@pytest.fixture
def commands(stranger, program):
    stranger("more", COMMANDS)
    return program


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["passes"], 0), (["answers", 0], 0), (["answers", 1], 1), (["answers", 3], 3), (["gate"], 1)],
)
def test_a_command_of_a_plugin_decides_its_exit_code(commands, arguments, code):
    assert commands(*arguments).code == code


def test_a_crash_is_4_with_a_traceback_that_no_terminal_obeys(commands):
    done = commands("crashes")
    assert done.code == 4
    assert "Traceback" in done.err
    assert "crashed: ValueError: boom [U+001B][31m[U+202E]" in done.err
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err
    assert not done.out


def test_nobody_can_leave_with_a_pass(commands):
    assert commands("leaves").code == 4


def test_an_interrupt_is_130(commands):
    done = commands("stops")
    assert done.code == 130
    assert "Traceback" not in done.err


def test_a_closed_pipe_is_no_crash(commands, tmp_path, unread):
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "strangers")}
    command = [sys.executable, "-m", "charpy", "prints"]
    done = subprocess.run(
        command, stdout=unread, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 141
    assert not done.stderr


def test_usage_is_2(charpy):
    for arguments in (["--nonsense"], ["nonsense"], ["assess"], ["plugins", "too", "many"]):
        done = charpy(*arguments)
        assert done.code == 2, arguments
        assert done.err.startswith("charpy: ")
        assert "Traceback" not in done.err
        assert not done.out


def test_an_unknown_command_names_the_nearest(charpy):
    assert "did you mean assess?" in charpy("asess").err


def test_a_command_that_two_plugins_register_is_refused_naming_both(stranger, program):
    stranger("impostor", "def charpy_commands(): return {'schema': print, 'fine': lambda: 0}")
    done = program("schema")
    assert done.code == 2
    assert "impostor 9.9" in done.err
    assert "charpy_core" in done.err
    assert program("fine").code == 0
    assert program("--help").code == 0


def test_a_command_that_cannot_be_imported_names_its_owner(stranger, program):
    stranger("broken", "def charpy_commands(): return {'gone': 'nowhere_to_be_found:gone'}")
    done = program("gone")
    assert done.code == 2
    assert "broken 9.9" in done.err
    assert "nowhere_to_be_found" in done.err
    assert program("--help").code == 0


def test_names_are_inert_on_the_terminal(charpy, tmp_path):
    done = charpy("assess", "evil\x1b]0;title\x07\u202e.onnx", "--data", "digits")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\u202e" not in done.err
    assert "[U+001B]" in done.err or "\\x1b" in done.err


MODELS = """
import os, time
import torch

def scores(images):
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1)

def nan(images):
    return scores(images) * torch.nan

def nan_under_attack(images):
    # valid on every image that the data holds, NaN on every other one
    answer = scores(images)
    mean = images.flatten(1).mean(1)
    answer[(mean > 0.43) & (mean < 0.57)] = torch.nan
    return answer

def exits(images):
    raise SystemExit(0)

def slow(images):
    time.sleep(0.02)
    return scores(images)
"""


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    return ["--data", "shades", "--norms", "l0", "--levels", "1,3", "--battery", "corner_pixels"]


def test_a_model_that_answers_nan_to_everything_gets_no_figure(charpy, models):
    done = charpy("assess", "models:nan", *models)
    assert done.code == 3
    assert "No verdict" in done.out


def test_a_run_with_too_many_invalid_samples_is_3(charpy, models):
    done = charpy("assess", "models:nan_under_attack", *models, "--queries", "300", "--out", "out")
    assert done.code == 3
    assert "No verdict" in done.out
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert report["status"] == "invalid"
    assert charpy("report", "out").code == 3


def test_a_model_that_exits_is_no_pass(program, models):
    done = program("assess", "models:exits", *models)
    assert done.code == 2
    assert "SystemExit" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_the_same_command_resumes(charpy, models, tmp_path, number, code):
    command = ["assess", "models:slow", *models, "--samples", "10", "--queries", "50"]
    process = subprocess.Popen(
        [sys.executable, "-m", "charpy", *command, "--out", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "run.charpy").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "goes on from here" in err
    assert not out
    done = charpy(*command, "--out", "out")
    assert done.code == 0, done.err
    if number == signal.SIGINT:  # what was resumed equals what was never interrupted
        resumed = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
        assert charpy(*command, "--out", "fresh").code == 0
        assert comparable(json.loads(Path("fresh/report.json").read_text(encoding="utf-8"))) == comparable(resumed)
