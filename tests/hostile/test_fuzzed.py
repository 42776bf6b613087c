"""What fuzzing the front doors found, kept; a small share of it with a fixed seed; and that the fuzzer finds at all."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from charpy.errors import DataError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KEPT = Path(__file__).parent / "fuzzed"
CASES = [f"{path.parent.name}/{path.name}" for path in sorted(KEPT.glob("*/*"))]
SHARE = {"spec": 60, "run": 8, "image": 80, "onnx": 50}
"""Inputs of each door: seconds."""


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[SimpleNamespace]:
    """The fuzzer's modules; its doors are made once, as one of them makes runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        loop, watch, door = (importlib.import_module(f"fuzzing.{name}") for name in ("loop", "watch", "door"))
        made: dict[str, Any] = {}

        def door_of(name: str) -> Any:
            if name not in made:
                made[name] = loop.door_of(name)
            return made[name]

        yield SimpleNamespace(loop=loop, watch=watch, door=door, door_of=door_of)


@pytest.fixture
def looked(fuzzing, tmp_path):
    """What is wrong with charpy's answer to an input at a door: '' where nothing is."""

    def look(door: Any, data: bytes) -> str:
        found = fuzzing.watch.look(door, data, tmp_path.resolve() / "open")
        return "" if found is None else f"{found.key}\n{found.told}"

    return look


@pytest.mark.parametrize("case", CASES)
def test_what_was_found_is_answered(fuzzing, looked, case):
    door, _, _ = case.partition("/")
    assert not looked(fuzzing.door_of(door), (KEPT / case).read_bytes())


def test_every_case_that_is_kept_is_told_of():
    told = json.loads((KEPT / "findings.json").read_text(encoding="utf-8"))
    assert sorted(f"{row['door']}/{row['case']}" for row in told) == sorted(CASES)
    assert all(row["was"] and row["now"] for row in told)


@pytest.mark.parametrize("name", SHARE)
def test_a_share_of_it(fuzzing, looked, name):
    """Seeds are taken; changed seeds get a result or one of our errors."""
    door, random = fuzzing.door_of(name), Random(20)
    seeds = door.seeds()
    assert not looked(door, seeds[0])
    made = {door.mutate(random.choice(seeds), random) for _ in range(SHARE[name])}
    assert len(made) > SHARE[name] / 2
    wrong = [problem for data in sorted(made) if (problem := looked(door, data))]
    assert not wrong, wrong[0]


@pytest.mark.parametrize("name", SHARE)
def test_the_first_input_is_taken(fuzzing, tmp_path, name):
    """The control: a door that refused everything would pass the rest."""
    door = fuzzing.door_of(name)
    door.open(door.seeds()[0], tmp_path)


def test_the_same_seed_gives_the_same_inputs(fuzzing):
    for name in SHARE:
        door = fuzzing.door_of(name)
        first, again, other = ([door.mutate(door.seeds()[0], Random(n)) for n in seeds] for seeds in (
            range(8), range(8), range(8, 16)))  # fmt: skip
        assert first == again
        assert first != other


class Lying:
    """A door behind which is the fault that an input names."""

    def __init__(self, elsewhere: Path) -> None:
        self.elsewhere = elsewhere

    def open(self, data: bytes, folder: Path) -> None:
        """Have the fault."""
        match data:
            case b"another exception":
                {}["x"]
            case b"the end of the process":
                raise SystemExit(0)
            case b"no place":
                raise DataError("refused", hint="nothing")
            case b"a file elsewhere":
                (self.elsewhere / "x").write_text("x")
            case b"a file away":
                os.remove(self.elsewhere / "y")
            case b"a program":
                subprocess.run([sys.executable, "--version"], check=True, capture_output=True)
            case b"refused":
                (folder / "x").write_text("x")
                raise DataError("refused", where="here")


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (b"another exception", "KeyError"),
        (b"the end of the process", "SystemExit"),
        (b"no place", "DataError without where"),
        (b"a file elsewhere", "reaches out of its folder at open"),
        (b"a file away", "reaches out of its folder at os.remove"),
        (b"a program", "reaches out of its folder at subprocess.Popen"),
        (b"refused", ""),
        (b"taken", ""),
    ],
)
def test_the_fuzzer_finds(looked, tmp_path, fault, found):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y").touch()
    problem = looked(Lying(tmp_path / "elsewhere"), fault)
    assert problem.startswith(found) if found else not problem


@pytest.mark.parametrize(
    ("fault", "longest", "code"),
    [
        ("while True: pass", 1.0, -signal.SIGPROF),
        ("held = bytearray(1 << 28); [held.__setitem__(slice(None), bytes(1 << 28)) for _ in range(10**6)]", 60.0, 71),
        ("import ctypes; ctypes.string_at(0)", 1.0, -signal.SIGSEGV),
    ],
)
def test_what_ends_the_process_is_told_from_outside(tmp_path, fault, longest, code):
    """A hang, memory and a crash: each ends the process with its stack on stderr."""
    script = tmp_path / "fault.py"
    script.write_text(
        "import faulthandler\nimport fuzzing.watch as watch\nfaulthandler.enable()\n"
        f"watch.LONGEST = {longest}\nwith watch.Guard(0.15).input():\n    {fault}\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])}
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, env=environment, timeout=250, check=False
    )
    assert ended.returncode == code, ended.stderr.decode()[-500:]
    assert b"fault.py" in ended.stderr
