"""The secret that lets us in goes to the server and nowhere else."""

from __future__ import annotations

import base64
import json

import pytest
import torch

from charpy.cli.app import run_program
from charpy.errors import ModelError, ServiceError, SpecError
from charpy.plugins import registry
from charpy.runfile import RunFile

SECRET = "hush-4f1c9a7e"
IMAGES = torch.rand(4, 1, 8, 8)
ANSWER = {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [4, 10], "data": [0.5] * 40}]}


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("SERVER_AUTH", f"Bearer {SECRET}")


def opened(url, **params):
    quick = {"backoff_seconds": 0.01, "ready_seconds": 0.1, "retries": 1, "auth_env": "SERVER_AUTH"}
    return registry().create("models", "open_inference", {"url": url, **quick, **params})


def guarded(serve, *model):
    server = serve(*model)
    server.token = f"Bearer {SECRET}"
    return server


def test_it_lets_us_in(serve, secret):
    server = guarded(serve)
    model = opened(server.url)
    assert model.predict(IMAGES).shape == (4, 10)
    assert server.log[-1]["headers"]["Authorization"] == server.token
    assert "plain HTTP" in model.notes[0]
    with pytest.raises(ServiceError, match="HTTP 401") as refused:
        opened(server.url, auth_env=None)
    assert "auth_env" in refused.value.hint


def test_another_header(serve, secret):
    server = serve()
    opened(server.url, auth_header="X-Api-Key")
    assert server.log[-1]["headers"]["X-Api-Key"] == f"Bearer {SECRET}"
    assert "Authorization" not in server.log[-1]["headers"]


@pytest.mark.parametrize("where", ["error", "page", "name", "output", "reason"])
def test_a_server_that_tells_it_again_is_not_repeated(serve, secret, faults, where):
    server = serve()
    model = opened(server.url)
    told = {
        "error": faults(400, json.dumps({"error": f"no {SECRET}"}).encode()),
        "page": faults(200, f"<html>{SECRET}</html>".encode()),
        "name": faults(200, json.dumps({**ANSWER, "model_name": SECRET}).encode()),
        "output": faults(200, json.dumps({"outputs": [{"name": SECRET, "shape": SECRET}]}).encode()),
        "reason": faults(302, b"", Location=f"http://h/?t={SECRET}"),
    }[where]
    server.faults = [told]
    with pytest.raises(ModelError) as caught:
        model.predict(IMAGES)
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)


def test_neither_is_what_a_basic_header_holds(serve, monkeypatch, faults):
    monkeypatch.setenv("SERVER_AUTH", "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode())
    server = serve()
    server.server["name"] = f"server of {SECRET}"
    model = opened(server.url)
    assert SECRET not in json.dumps(dict(model.fingerprint()))
    server.faults = [faults(400, json.dumps({"error": SECRET}).encode())]
    with pytest.raises(ModelError) as caught:
        model.predict(IMAGES)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", f"Bearer {SECRET}\n", f"Bearer {SECRET}\r\nX: y", f"Bearer {SECRET}é"])
def test_a_variable_that_holds_no_header(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("SERVER_AUTH", raising=False)
    else:
        monkeypatch.setenv("SERVER_AUTH", value)
    with pytest.raises(SpecError, match="environment variable") as caught:
        opened("http://127.0.0.1:1/v2/models/m")
    assert SECRET not in str(caught.value)


def test_the_secret_itself_in_place_of_the_variable_s_name():
    with pytest.raises(SpecError, match="names no environment variable") as caught:
        opened("http://127.0.0.1:1/v2/models/m", auth_env=SECRET)
    assert SECRET not in str(caught.value)


def test_it_is_in_no_file_and_on_no_screen_of_a_run(serve, secret, reads_digits, tmp_path, monkeypatch, capfd):
    """A run that ends because the server lets nobody in any more, and is then resumed."""
    monkeypatch.chdir(tmp_path)
    server = guarded(serve, reads_digits)
    spec = {
        "name": "guarded",
        "data": {"kind": "digits", "samples": 8},
        "models": [{"kind": "open_inference", "params": {"url": server.url, "auth_env": "SERVER_AUTH"}}],
        "threats": [{"norm": "l0", "levels": [3], "battery": [{"kind": "sparse_rs", "queries": 40}]}],
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    server.when = (lambda: (tmp_path / "out" / "run.charpy").exists(), "lock")
    assert run_program(["run", "spec.json", "--out", "out"]) == 4
    server.token = f"Bearer {SECRET}"
    assert run_program(["run", "spec.json", "--out", "out"]) in (0, 3)
    with RunFile.open(tmp_path / "out" / "run.charpy") as run:
        assert run.meta("finished")
        assert SECRET not in json.dumps([run.identity, run.spec, run.meta("models"), run.meta("environment")])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    printed = capfd.readouterr()
    assert "HTTP 401" in printed.err
    assert SECRET not in printed.out + printed.err
