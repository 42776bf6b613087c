"""The MLflow listener: off unless asked for; against a stand-in for its client, and MLflow where it is there."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import ClassVar, NamedTuple

import pytest

from charpy_plugins.events.mlflow import MlflowEvents


class Param(NamedTuple):
    key: str
    value: str


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


@dataclass
class Run:
    """A run in the stand-in's store."""

    experiment: str
    name: str
    tags: dict
    params: dict = field(default_factory=dict)
    metrics: list = field(default_factory=list)
    texts: dict = field(default_factory=dict)
    status: str = "RUNNING"


class Client:
    """What of `mlflow.MlflowClient` is used, with the same signatures; refuses names that MLflow refuses."""

    made: ClassVar[list[Run]] = []
    experiments: ClassVar[list[str]] = []

    def get_experiment_by_name(self, name):
        known = name in self.experiments
        return SimpleNamespace(experiment_id=f"of {name}") if known else None

    def create_experiment(self, name, artifact_location=None, tags=None):
        self.experiments.append(name)
        return f"of {name}"

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        assert experiment_id == f"of {self.experiments[-1]}"
        self.made.append(Run(self.experiments[-1], run_name, dict(tags)))
        return SimpleNamespace(info=SimpleNamespace(run_id=len(self.made) - 1))

    def search_runs(self, experiment_ids, filter_string="", run_view_type=1, max_results=1000, order_by=None):
        key, value = re.fullmatch(r"tags\.`([^`]+)` = '([^']*)'", filter_string).groups()
        found = [
            number
            for number, run in enumerate(self.made)
            if (f"of {run.experiment}", run.tags.get(key)) == (experiment_ids[0], value)
        ]
        return [SimpleNamespace(info=SimpleNamespace(run_id=number)) for number in found[:max_results]]

    def update_run(self, run_id, status=None, name=None):
        self.made[run_id].status = status

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        run = self.made[run_id]
        for item in (*metrics, *params):
            assert re.fullmatch(r"[A-Za-z0-9_\-. :/]{1,250}", item.key), item.key
        for param in params:
            assert len(param.value) <= 6000
            assert run.params.setdefault(*param) == param.value, "MLflow refuses another value"
        run.metrics += metrics

    def set_tag(self, run_id, key, value, synchronous=None):
        self.made[run_id].tags[key] = value

    def log_text(self, run_id, text, artifact_file):
        self.made[run_id].texts[artifact_file] = text

    def set_terminated(self, run_id, status=None, end_time=None):
        self.made[run_id].status = status


@pytest.fixture
def mlflow(monkeypatch):
    """The stand-in as the module `mlflow`."""
    monkeypatch.setattr(Client, "made", [])
    monkeypatch.setattr(Client, "experiments", [])
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient, entities.Param, entities.Metric, module.entities = Client, Param, Metric, entities
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return Client


@pytest.mark.parametrize("value", [None, "", "0"])
def test_it_is_off_unless_it_is_asked_for(happen, mlflow, monkeypatch, value):
    monkeypatch.delenv("CHARPY_MLFLOW", raising=False)
    if value is not None:
        monkeypatch.setenv("CHARPY_MLFLOW", value)
    assert not happen(MlflowEvents()).failures
    assert not mlflow.made


@pytest.mark.parametrize(("value", "experiment"), [("1", "charpy"), ("robustness", "robustness")])
def test_it_logs_what_was_run_how_far_it_is_and_what_was_found(
    happen, mlflow, monkeypatch, expected, value, experiment
):
    monkeypatch.setenv("CHARPY_MLFLOW", value)
    assert not happen(MlflowEvents()).failures
    (client,) = mlflow.made
    assert client.tags["charpy.run_id"] == "f00d"
    assert (client.experiment, client.status) == (experiment, "FINISHED")
    assert client.name == "a:b[U+001B][31m[U+202E] <script>[U+000A]"
    assert client.params["l0/levels"] == "[1, 3, 5, 10]"
    assert client.params["seed"] == "3"
    steps = [(metric.step, metric.value) for metric in client.metrics if metric.key == "outcomes/held"]
    assert steps == [(1, 3.0), (2, 7.0)]
    last = {metric.key: metric.value for metric in client.metrics}
    assert {name: last[name] for name in expected} == pytest.approx(expected)
    assert json.loads(client.texts["report.json"])["schema"] == "charpy.report/1"
    assert "7 of 8 images" in client.tags["mlflow.note.content"]


def test_without_the_package_the_run_goes_on_and_says_so(happen, monkeypatch):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    (failure,) = happen(MlflowEvents()).failures
    assert failure.plugin == "tracker"
    assert "mlflow" in failure.cause


def test_a_client_that_fails_hides_nothing(happen, mlflow, monkeypatch):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")

    def down(self, *args, **kwargs):
        raise ConnectionError("no server")

    monkeypatch.setattr(mlflow, "log_batch", down)
    listener = MlflowEvents()
    causes = {failure.cause for failure in happen(listener).failures}
    listener._client = None
    assert causes == {f"{event}: ConnectionError: no server" for event in (
        "charpy_run_started", "charpy_outcomes", "charpy_run_finished"
    )}  # fmt: skip


def test_a_run_that_does_not_end_is_marked_failed(synthetic, tmp_path, mlflow, monkeypatch):
    from charpy.specs import RunSpec, parse

    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    listener = MlflowEvents()
    with synthetic.build(tmp_path / "run.charpy") as run:
        listener.charpy_run_started(parse(RunSpec, run.spec), units=1, run_id="", done=0, outcomes={})
    listener._given_up()  # what atexit calls
    assert mlflow.made[0].status == "FAILED"
    listener._client = None


@pytest.mark.parametrize("end", ["killed", "failed"])
def test_a_resumed_run_goes_on_in_the_entry_that_it_began(happen, mlflow, monkeypatch, end):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    first = MlflowEvents()
    assert not happen(first, last=1).failures
    if end == "failed":
        first._given_up()
    assert mlflow.made[0].status == {"killed": "RUNNING", "failed": "FAILED"}[end]
    assert not happen(MlflowEvents(), first=1).failures
    (found,) = mlflow.made
    assert found.status == "FINISHED"
    for name, values in {"units": [1, 2], "outcomes/held": [3, 7], "outcomes/broken": [1, 1]}.items():
        logged = [(metric.step, metric.value) for metric in found.metrics if metric.key == name]
        assert logged == list(enumerate(values, start=1))
    first._client = None


def test_a_resumed_run_is_running_until_it_ends(happen, mlflow, monkeypatch):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    listeners = [MlflowEvents(), MlflowEvents()]
    for number, listener in enumerate(listeners):
        happen(listener, first=number, last=1)
        assert [run.status for run in mlflow.made] == ["RUNNING"]
        listener._given_up()
        listener._client = None


@pytest.mark.parametrize("run_id", ["f00d", ""])
def test_another_run_has_an_entry_of_its_own(happen, mlflow, monkeypatch, run_id):
    """An older run file that has no id is nobody's continuation."""
    for experiment, own in (("1", run_id), ("1", run_id and "beef"), ("other", run_id)):
        monkeypatch.setenv("CHARPY_MLFLOW", experiment)
        assert not happen(MlflowEvents(), run_id=own).failures
    assert len(mlflow.made) == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed (charpy[mlflow])")
def test_with_mlflow_itself(happen, tmp_path, monkeypatch, expected):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    killed = MlflowEvents()
    assert not happen(killed, last=1).failures
    killed._given_up()
    killed._client = None
    assert not happen(MlflowEvents(), first=1).failures
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("charpy").experiment_id])
    assert found.info.status == "FINISHED"
    assert {name: found.data.metrics[name] for name in expected} == pytest.approx(expected)
    assert len(client.get_metric_history(found.info.run_id, "units")) == 2
    assert [item.path for item in client.list_artifacts(found.info.run_id)] == ["report.json"]
