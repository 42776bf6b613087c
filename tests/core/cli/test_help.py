"""`charpy --help` is there at once, and says what there is."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

COMMANDS = ("assess", "describe", "export", "plugins", "report", "run", "schema")


def test_help_lists_every_command_with_its_summary(charpy):
    done = charpy("--help")
    assert done.code == 0
    assert not done.err
    for command in COMMANDS:
        assert f" {command} " in done.out
    assert "dual report" in done.out


@pytest.mark.parametrize("arguments", [(), ("-h",)])
def test_other_ways_to_ask_for_help(charpy, arguments):
    assert charpy(*arguments) == charpy("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(charpy, command):
    done = charpy(command, "--help")
    assert done.code == 0
    assert f"Usage: charpy {command}" in done.out


def test_version(charpy):
    from importlib.metadata import version

    assert charpy("--version") == (0, f"charpy {version('charpy')}\n", "")


def test_help_loads_nothing_heavy():
    code = """
import sys
from charpy.cli.app import run_program
assert run_program(["--help"]) == 0
heavy = {"torch", "onnx", "onnxruntime", "scipy", "sklearn", "altair", "PIL", "numpy", "pydantic"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_four_tenths_of_a_second():
    """The processor time of the whole process, interpreter included: other work on the machine does not count."""
    resource = pytest.importorskip("resource")
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "charpy", "--help"], capture_output=True, check=True)
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(min(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime))
    assert statistics.median(spent) < 0.4, spent
