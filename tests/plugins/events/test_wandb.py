"""The W&B listener: off unless asked for; against a stand-in for its client, and W&B offline where it is there."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from contextlib import contextmanager
from types import ModuleType

import pytest

from charpy_plugins.events.wandb import WandbEvents


class Artifact:
    def __init__(self, name, type):  # noqa: A002 (the client's own word)
        self.name, self.type, self.files = name, type, {}

    @contextmanager
    def new_file(self, name, mode="x", encoding=None):
        sink = io.BytesIO()
        yield sink
        self.files[name] = sink.getvalue()


class Run:
    """What of a W&B run is used."""

    def __init__(self, name):
        self.id, self.rows, self.summary, self.artifacts, self.finished = name, [], {}, [], False

    def log(self, data, step=None, commit=None):
        assert not self.rows or step > self.rows[-1][0], "W&B drops what is no later step"
        self.rows.append((step, data))

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """The stand-in as the module `wandb`; `made` holds (what it was opened with, run), `runs` those of the server."""
    module = ModuleType("wandb")
    module.made, module.runs = [], {}

    def init(project=None, name=None, config=None, settings=None, id=None, resume=None):  # noqa: A002
        key = (project, id or f"run {len(module.made)}")
        assert resume == "allow" or key not in module.runs
        run = module.runs.setdefault(key, Run(key[1]))
        module.made.append(({"project": project, "name": name, "config": config}, run))
        return run

    module.init, module.Artifact, module.Settings = init, Artifact, lambda **settings: settings
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.parametrize("value", [None, "", "0"])
def test_it_is_off_unless_it_is_asked_for(happen, wandb, monkeypatch, value):
    monkeypatch.delenv("CHARPY_WANDB", raising=False)
    if value is not None:
        monkeypatch.setenv("CHARPY_WANDB", value)
    assert not happen(WandbEvents()).failures
    assert not wandb.made


@pytest.mark.parametrize(("value", "project"), [("1", "charpy"), ("robustness", "robustness")])
def test_it_logs_what_was_run_how_far_it_is_and_what_was_found(happen, wandb, monkeypatch, expected, value, project):
    monkeypatch.setenv("CHARPY_WANDB", value)
    assert not happen(WandbEvents()).failures
    ((opened, run),) = wandb.made
    assert opened["project"] == project
    assert opened["name"] == "a:b[U+001B][31m[U+202E] <script>[U+000A]"
    assert opened["config"]["l0/levels"] == "[1, 3, 5, 10]"
    assert [(step, row["outcomes/held"]) for step, row in run.rows] == [(1, 3.0), (2, 7.0)]
    assert {name: run.summary[name] for name in expected} == pytest.approx(expected)
    assert "7 of 8 images" in run.summary["verdict"]
    (artifact,) = run.artifacts
    assert json.loads(artifact.files["report.json"])["schema"] == "charpy.report/1"
    assert run.finished


def test_a_resumed_run_goes_on_under_the_same_id(happen, wandb, monkeypatch):
    monkeypatch.setenv("CHARPY_WANDB", "1")
    assert not happen(WandbEvents(), last=1).failures
    assert not happen(WandbEvents(), first=1).failures
    (run,) = wandb.runs.values()
    assert run.id == "f00d"
    assert [(step, row["units"], row["outcomes/held"]) for step, row in run.rows] == [(1, 1.0, 3.0), (2, 2.0, 7.0)]
    assert run.finished


@pytest.mark.parametrize("run_id", ["f00d", ""])
def test_another_run_is_another_one(happen, wandb, monkeypatch, run_id):
    monkeypatch.setenv("CHARPY_WANDB", "1")
    for own in (run_id, run_id and "beef"):
        assert not happen(WandbEvents(), run_id=own).failures
    assert len(wandb.runs) == 2


def test_without_the_package_the_run_goes_on_and_says_so(happen, monkeypatch):
    monkeypatch.setenv("CHARPY_WANDB", "1")
    monkeypatch.setitem(sys.modules, "wandb", None)
    (failure,) = happen(WandbEvents()).failures
    assert "wandb" in failure.cause


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="W&B is not installed (charpy[wandb])")
def test_with_wandb_itself_offline(happen, tmp_path, monkeypatch):
    for name, value in (("CHARPY_WANDB", "1"), ("WANDB_MODE", "offline"), ("WANDB_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    import wandb

    assert not happen(WandbEvents()).failures
    wandb.teardown()  # its service has written everything now
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = written.read_bytes()
    assert b"l0/th3/robust_accuracy_not_broken" in content
    assert b"charpy-report-" in content
