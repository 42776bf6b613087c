"""The MLflow listener: off unless asked for; against a stand-in for its client, and MLflow where it is there."""

from __future__ import annotations

import importlib.util
import json
import sys
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


class Client:
    """What of `mlflow.MlflowClient` is used, with the same signatures; refuses names that MLflow refuses."""

    made: ClassVar[list[Client]] = []

    def __init__(self):
        self.params, self.metrics, self.texts, self.tags, self.status, self.experiment = {}, [], {}, {}, "RUNNING", None
        self.made.append(self)

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name, artifact_location=None, tags=None):
        self.experiment = name
        return "7"

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        assert experiment_id == "7"
        self.tags, self.name = dict(tags), run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        import re

        for item in (*metrics, *params):
            assert re.fullmatch(r"[A-Za-z0-9_\-. :/]{1,250}", item.key), item.key
        assert all(len(param.value) <= 6000 for param in params)
        self.params.update(params)
        self.metrics += metrics

    def set_tag(self, run_id, key, value, synchronous=None):
        self.tags[key] = value

    def log_text(self, run_id, text, artifact_file):
        self.texts[artifact_file] = text

    def set_terminated(self, run_id, status=None, end_time=None):
        self.status = status


@pytest.fixture
def mlflow(monkeypatch):
    """The stand-in as the module `mlflow`."""
    monkeypatch.setattr(Client, "made", [])
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
    causes = {failure.cause for failure in happen(MlflowEvents()).failures}
    assert causes == {f"{event}: ConnectionError: no server" for event in (
        "charpy_run_started", "charpy_outcomes", "charpy_run_finished"
    )}  # fmt: skip


def test_a_run_that_does_not_end_is_marked_failed(synthetic, tmp_path, mlflow, monkeypatch):
    from charpy.specs import RunSpec, parse

    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    listener = MlflowEvents()
    with synthetic.build(tmp_path / "run.charpy") as run:
        listener.charpy_run_started(spec=parse(RunSpec, run.spec), units=1)
    listener._given_up()  # what atexit calls
    assert mlflow.made[0].status == "FAILED"
    listener._client = None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed (charpy[mlflow])")
def test_with_mlflow_itself(happen, tmp_path, monkeypatch, expected):
    monkeypatch.setenv("CHARPY_MLFLOW", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    assert not happen(MlflowEvents()).failures
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("charpy").experiment_id])
    assert found.info.status == "FINISHED"
    assert {name: found.data.metrics[name] for name in expected} == pytest.approx(expected)
    assert len(client.get_metric_history(found.info.run_id, "units")) == 2
    assert [item.path for item in client.list_artifacts(found.info.run_id)] == ["report.json"]
