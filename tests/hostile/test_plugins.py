"""Rows 30, 34 and 36 of the hostile inputs: plugins that quarrel or are broken, and files that are no runs of ours."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from charpy.errors import DuplicateNameError
from charpy.plugins import Registry, registry

BROKEN = {
    "cannot be imported": ("import a_package_that_is_nowhere", "ModuleNotFoundError"),
    "is no Python": ("def charpy_attacks(:", "SyntaxError"),
    "raises": ("raise RuntimeError('no licence')", "no licence"),
    "ends the process": ("raise SystemExit(0)", "SystemExit"),
    "returns a list": ("def charpy_attacks():\n    return ['square']", "returned no mapping"),
    "has no import string": ("def charpy_attacks():\n    return {'a': 'nowhere'}", "has no import string"),
    "misspells a hook": (
        "from charpy.hookspecs import hookimpl\n@hookimpl\ndef charpy_atacks():\n    return {}", "charpy_atacks"),
    "misspells an argument": (
        "from charpy.hookspecs import hookimpl\n@hookimpl\ndef charpy_run_finished(pth):\n    pass", "pth"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_and_hides_nothing(folder, case, monkeypatch):
    source, cause = BROKEN[case]
    (folder / "broken_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    points = [EntryPoint("broken", "broken_plugin", "charpy"), EntryPoint("charpy_core", "charpy.builtin", "charpy"),
              EntryPoint("charpy_plugins", "charpy_plugins.plugin", "charpy")]  # fmt: skip
    found = Registry(points)
    (failure,) = found.failures
    assert failure.plugin == "broken"
    assert cause in failure.cause
    assert found.find("attacks", "square").plugin == "charpy_plugins"
    assert {entry.plugin for entry in found.entries()} == {"charpy_core", "charpy_plugins"}


@pytest.mark.parametrize(
    ("hook", "kind"), [("attacks", "square"), ("datasets", "digits"), ("models", "onnx"), ("metrics", "l2")]
)
def test_one_name_of_two_plugins_is_refused_by_name(hook, kind):
    """The other kinds of both go on working, and nobody takes over a name by being loaded first."""
    for name in ("aaa", "zzz"):
        found = Registry()
        hooks = {f"charpy_{hook}": lambda kind=kind: {kind: "mine:Mine", "of_my_own": "mine:Mine"}}
        found.add(SimpleNamespace(**hooks), name, f"{name}-package", "1.0")
        with pytest.raises(DuplicateNameError) as caught:
            found.find(hook, kind)
        assert f"{name}-package 1.0" in str(caught.value)
        assert "charpy_plugins" in str(caught.value)
        assert caught.value.hint
        assert found.find(hook, "of_my_own").plugin == name
        assert [entry.plugin for entry in found.entries(hook) if entry.kind == kind] == sorted([name, "charpy_plugins"])


def test_the_installed_plugins_have_no_quarrel():
    assert not registry().conflicts
    assert not registry().failures


def sqlite(version: int = 0, application: int = 0) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {application}")
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    return connection.serialize()


FILES = {
    "nothing": b"",
    "text": b"this is no run file\n" * 20,
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x05mkdir\x94\x93\x94.",
    "a zip": b"PK\x03\x04" + bytes(200),
    "the first bytes of SQLite": b"SQLite format 3\0",
    "another SQLite file": sqlite(),
    "a run of a later version": sqlite(99, 0x43685079),
    "a run of no version": sqlite(0, 0x43685079),
}


@pytest.mark.parametrize("case", FILES)
def test_row_36_what_is_no_run_of_ours_is_refused_and_left_alone(charpy, folder, case):
    path = folder / "run.charpy"
    path.write_bytes(FILES[case])
    code, out, err = charpy("report", path)
    assert code == 2
    assert "run.charpy" in err
    assert "found:" in err
    assert "Traceback" not in err
    assert not out
    assert path.read_bytes() == FILES[case]
    assert [entry.name for entry in folder.iterdir()] == ["run.charpy"]


@pytest.mark.parametrize("case", list(FILES)[1:7:2])
def test_row_36_and_no_run_is_resumed_into_it(charpy, folder, case, on_shades):
    (folder / "out").mkdir()
    path = folder / "out" / "run.charpy"
    path.write_bytes(FILES[case])
    code, _, err = charpy("assess", "brightness", *on_shades)
    assert code == 2
    assert "Traceback" not in err
    assert path.read_bytes() == FILES[case]


DEADLY = """
import ctypes, os, sys, time
import torch

def scores(images):
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1)

def moved(images):
    return bool(((images == 0) | (images == 1)).any())

def exits(images):
    if moved(images): sys.exit(0)
    return scores(images)

def gone(images):
    if moved(images): os._exit(0)
    return scores(images)

def segfault(images):
    if moved(images): ctypes.string_at(0)
    return scores(images)

def gone_at_once(images): os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("exits", "SystemExit"),
        pytest.param("gone", "it ended itself with exit code 0", marks=pytest.mark.slow),
        pytest.param("segfault", "SIGSEGV", marks=pytest.mark.slow),
        pytest.param("gone_at_once", "it ended itself with exit code 0", marks=pytest.mark.slow),
    ],
)
def test_row_30_what_kills_the_process_is_named_and_never_a_pass(folder, name, cause, on_shades):
    """In the process of its own that the command line computes in; the clean figures survive."""
    (folder / "deadly.py").write_text(DEADLY)
    environment = {key: value for key, value in os.environ.items() if key != "CHARPY_SUPERVISE"}
    command = [sys.executable, "-m", "charpy", "assess", f"deadly:{name}", *on_shades]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode in (2, 3)
    assert cause in done.stdout + done.stderr
    report = Path("out/report.json")
    assert report.is_file() == (name != "gone_at_once")
    if report.is_file():
        found = json.loads(report.read_text(encoding="utf-8"))
        assert found["clean_accuracy"] == 1
        assert (found["threats"][0]["held"], found["threats"][0]["broken"]) == (0, 0)
        assert found["status"] == "invalid"
