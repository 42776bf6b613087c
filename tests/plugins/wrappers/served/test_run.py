"""Runs on a served model: the results of the same model in process; a server that goes costs a unit, no more."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from charpy.cli.app import run_program
from charpy.runfile import RunFile

REST = ("--data", "digits", "--samples", "12", "--levels", "3", "--queries", "40", "--certify", "0")
BLACK_BOX = (*REST, "--battery", "black-box")


@pytest.fixture
def folder(reader_in_a_module, tmp_path):
    return tmp_path


def found(out):
    """Every result and every witness of a run."""
    with RunFile.open(Path(out) / "run.charpy") as run:
        assert run.meta("finished")
        return list(run.results(0)), sorted(map(repr, run.witnesses(0))), run.samples(0)


def assess(model, out):
    return run_program(["assess", model, *BLACK_BOX, "--out", out])


@pytest.mark.slow
def test_a_black_box_battery_finds_what_it_finds_in_process(serve, reads_digits, reader_in_a_module, folder, capsys):
    server = serve(reads_digits)
    assert assess(reader_in_a_module, "here") == assess(server.url, "there")
    assert found("here") == found("there")
    assert any(row.outcome == "broken" for _, _, row in found("here")[0])
    with RunFile.open(folder / "there" / "run.charpy") as run:
        (part,) = run.meta("models")
    assert (part["kind"], part["access"], part["output"]) == ("open_inference", "SCORES", "logits")
    assert part["deterministic"]
    assert part["batch_invariant"]


def short(server, folder, **params):
    """A spec with two units on `server`, and how to run it into a folder."""
    spec = {
        "name": "served",
        "data": {"kind": "digits", "samples": 24},
        "models": [
            {
                "name": "served",
                "kind": "open_inference",
                "params": {"url": server.url, "retries": 1, "backoff_seconds": 0.01, **params},
            }
        ],
        "threats": [{"norm": "l0", "levels": [1, 3], "battery": [{"kind": "sparse_rs", "queries": 60}]}],
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return lambda out: run_program(["run", "spec.json", "--out", out])


def after_the_first_unit(out):
    """Whether the run in this folder has written a unit."""

    def happened():
        path = Path(out) / "run.charpy"
        if not path.exists():
            return False
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as run:
            tables = run.execute("select count(*) from sqlite_master where name = 'units'").fetchone()[0]
            return bool(tables) and run.execute("select count(*) from units").fetchone()[0] > 0

    return happened


@pytest.mark.slow
@pytest.mark.parametrize("supervised", ["0", "1"])
def test_a_server_that_dies_costs_the_unit_and_the_same_command_goes_on(
    serve, reads_digits, folder, capfd, monkeypatch, supervised
):
    server = serve(reads_digits)
    run = short(server, folder)
    whole = run("whole")
    capfd.readouterr()
    monkeypatch.setenv("CHARPY_SUPERVISE", supervised)
    server.when = (after_the_first_unit("out"), "stop")
    assert run("out") == 4
    said = capfd.readouterr().err
    assert "while served  l0 th=3  sparse_rs was computed, which is lost" in said
    assert "the same command goes on from here" in said
    with RunFile.open(folder / "out" / "run.charpy") as half:
        assert len(half.units(0)) == 1
        assert not half.meta("finished")
    server.start()
    assert run("out") == whole
    assert found("out") == found("whole")


def test_how_the_server_is_asked_may_change_in_between_and_the_model_may_not(
    serve, reads_digits, folder, capsys, monkeypatch
):
    server = serve(reads_digits)
    server.when = (after_the_first_unit("out"), "stop")
    assert short(server, folder)("out") == 4
    server.start()
    server.model = lambda values: reads_digits(values) * 2
    capsys.readouterr()
    assert short(server, folder)("out") == 2
    assert "answers" in capsys.readouterr().err
    server.model = reads_digits
    monkeypatch.setenv("SERVER_AUTH", "Bearer of something")
    patient = {"timeout_seconds": 100.0, "retries": 3, "auth_env": "SERVER_AUTH", "rows_per_second": 1e6}
    assert short(server, folder, **patient)("out") in (0, 3)


def test_an_error_of_the_model_behind_the_server_costs_the_unit(serve, reads_digits, folder, capsys, faults):
    server = serve(reads_digits)
    server.when = (after_the_first_unit("out"), faults(500, b'{"error": "division by zero"}'))
    assert short(server, folder)("out") == 3
    with RunFile.open(folder / "out" / "run.charpy") as run:
        assert run.meta("finished")
        reasons = {key.th: row.reason for key, _, row in run.results(0) if row.outcome == "invalid"}
    assert list(reasons) == [3]
    assert "division by zero" in reasons[3]


RUNTIME = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Digits(MLModel):
    async def load(self):
        self.weights = np.load("weights.npy")
        return True

    async def predict(self, payload):
        images = NumpyCodec.decode_input(payload.inputs[0])
        pixels = np.rint(images.reshape(len(images), -1) * 255).astype(np.int64)
        scores = (pixels @ self.weights / 4096).astype(np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])
"""


@pytest.fixture
def mlserver(folder):
    """The address of a model in a real server; whole numbers inside, so that every numpy computes the same bits."""
    where = os.environ.get("CHARPY_MLSERVER")
    if not where:
        pytest.skip("needs MLServer 1.7: set CHARPY_MLSERVER to a virtual environment with `pip install mlserver`")
    import httpx

    (folder / "digits_runtime.py").write_text(RUNTIME)
    tensor = {"datatype": "FP32", "shape": [-1, 1, 8, 8], "name": "images"}
    scores = {"datatype": "FP32", "shape": [-1, 10], "name": "scores"}
    settings = {"name": "digits", "implementation": "digits_runtime.Digits", "inputs": [tensor], "outputs": [scores]}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), (s.getsockname()[1] for s in sockets), strict=True))
    for each in sockets:
        each.close()
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [f"{where}/bin/python", "-m", "mlserver.cli.main", "start", "."]
    with (folder / "mlserver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{ports['http_port']}/v2/models/digits"
        try:
            for _ in range(300):
                assert process.poll() is None, (folder / "mlserver.log").read_text()
                try:
                    httpx.get(f"{url}/ready")
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def test_a_real_server(mlserver, reader_in_a_module, folder, capsys):
    assert assess(reader_in_a_module, "here") == assess(mlserver, "there")
    assert found("here") == found("there")
    assert any(row.outcome == "broken" for _, _, row in found("here")[0])
