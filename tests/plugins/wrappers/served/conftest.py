"""A server of the Open Inference Protocol v2 in the standard library, with faults on command."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

KINDS = {"FP32": np.float32, "FP64": np.float64, "UINT8": np.uint8, "INT64": np.int64}
LENGTH = "Inference-Header-Content-Length"

Answer = Callable[[NDArray[Any]], NDArray[Any]]


class Fault:
    """What is done instead of an answer; see `_Handler.do_POST`."""

    def __init__(self, status: int = 200, body: bytes | None = None, **headers: str) -> None:
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Served:
    """The server: what it says, what it counts, and what goes wrong next.

    Attributes:
        faults: one for each of the next inferences, "drop" to close the connection, "stop" to be gone,
            "lock" to let nobody in, "cut" and "drip" to send half an answer or a slow one, a number to sleep seconds.
        when: a fault that comes once, when a condition holds.
        change: applied to each answer's document before it is sent.
        log: of each inference: when, rows, headers, whether raw values came.
    """

    def __init__(self, model: Answer, shape: list[int], datatype: str = "FP32", classes: int = 10) -> None:
        self.model = model
        self.inputs: list[dict[str, Any]] = [{"name": "images", "datatype": datatype, "shape": shape}]
        self.outputs: list[dict[str, Any]] = [{"name": "scores", "datatype": "FP32", "shape": [-1, classes]}]
        self.server: dict[str, Any] = {"name": "test-server", "version": "1.0", "extensions": []}
        self.model_version: str | None = "1"
        self.binary = False
        self.config: dict[str, Any] | None = None
        self.ready: list[int] = []
        self.get: dict[str, Fault] = {}
        self.faults: list[Fault | str | float] = []
        self.always: Fault | str | None = None
        self.when: tuple[Callable[[], bool], Fault | str] | None = None
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
        self.token: str | None = None
        self.log: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.port = 0
        self.http: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/digits"

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        handler = type("Handler", (_Handler,), {"served": self})
        ThreadingHTTPServer.daemon_threads = True
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.http.server_address[1]
        self.open: list[Any] = []
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections that are open are closed, too."""
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
            self.http = None
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(2)

    def infer(self, document: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        (tensor,) = document["inputs"]
        kind = KINDS[tensor["datatype"]]
        values = np.frombuffer(raw, kind) if raw else np.array(tensor["data"], kind)
        answer = self.model(values.reshape(tensor["shape"]))
        datatype = next(name for name, known in KINDS.items() if known == answer.dtype)
        name = (document.get("outputs") or self.outputs or [{"name": "any"}])[0]["name"]
        out: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(answer.shape)}
        data = b""
        if raw:
            data = answer.tobytes()
            out["parameters"] = {"binary_data_size": len(data)}
        else:
            out["data"] = [None if value != value else value for value in answer.ravel().tolist()]
        found = {"model_name": "digits", "outputs": [out]}
        if self.model_version is not None:
            found["model_version"] = self.model_version
        return self.change(found), data


class _Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def log_message(self, *arguments: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.served.open.append(self.connection)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def let_in(self) -> bool:
        token = self.served.token
        if token is None or self.headers.get("Authorization") == token:
            return True
        said = json.dumps({"error": f"you sent {self.headers.get('Authorization')}"}).encode()
        self.reply(401, said)
        return False

    def do_GET(self) -> None:
        served = self.served
        if self.path in served.get:
            fault = served.get[self.path]
            self.reply(fault.status, fault.body or b"", fault.headers)
            return
        if not self.let_in():
            return
        answers: dict[str, dict[str, Any] | None] = {
            "/v2": served.server,
            "/v2/models/digits": {
                "name": "digits",
                "versions": ["1"],
                "platform": "test",
                "inputs": served.inputs,
                "outputs": served.outputs,
            },
            "/v2/models/digits/config": served.config,
        }
        if self.path == "/v2/models/digits/ready":
            self.reply(served.ready.pop(0) if served.ready else 200, b"{}")
            return
        found = answers.get(self.path)
        if found is None:
            self.reply(404, b'{"error":"unknown model"}')
        else:
            self.reply(200, json.dumps(found).encode())

    def do_POST(self) -> None:
        served = self.served
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = self.headers.get(LENGTH)
        document = json.loads(body[: int(length)] if length else body)
        raw = body[int(length) :] if length else b""
        rows = document["inputs"][0]["shape"][0]
        with served.lock:
            served.log.append(
                {
                    "at": time.monotonic(),
                    "rows": rows,
                    "headers": dict(self.headers),
                    "raw": bool(raw),
                    "said": document,
                }
            )
            served.at_once += 1
            served.most_at_once = max(served.most_at_once, served.at_once)
            fault = served.faults.pop(0) if served.faults else served.always
            if served.when is not None and served.when[0]():
                fault, served.when = served.when[1], None
        try:
            self._answer(document, raw, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with served.lock:
                served.at_once -= 1

    def _answer(self, document: dict[str, Any], raw: bytes, fault: Fault | str | float | None) -> None:
        if fault == "lock":
            self.served.token = "another one"
        if not self.let_in():
            return
        if fault == "stop":
            threading.Thread(target=self.served.stop, daemon=True).start()
            time.sleep(0.1)
            fault = "drop"
        if fault == "drop":
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"outputs"')
            self.wfile.flush()
            self.close_connection = True
            return
        if fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
            return
        if isinstance(fault, float):
            time.sleep(fault)
        if isinstance(fault, Fault):
            self.reply(fault.status, fault.body or b"", fault.headers)
            return
        if raw and not self.served.binary:
            self.reply(422, b'{"error":"raw values are not understood"}')
            return
        found, data = self.served.infer(document, raw)
        text = json.dumps(found).encode()
        self.reply(200, text + data, {LENGTH: str(len(text))} if data else None)


def linear(values: NDArray[Any]) -> NDArray[Any]:
    """Ten scores of any images: fixed random weights."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    weights = np.random.default_rng(0).standard_normal((flat.shape[1], 10)).astype(np.float32)
    # row by row: the same bits whatever the batch
    return np.stack([(row[:, None] * weights).sum(0, dtype=np.float32) for row in flat])


def reader(values: NDArray[Any]) -> NDArray[Any]:
    """Ten scores of 8 x 8 digits: their likeness to each class, in whole numbers: the same bits anywhere."""
    pixels = np.rint(values.reshape(len(values), -1) * 255).astype(np.int64)
    return (pixels @ weights_of_the_reader() / 4096).astype(np.float32)


@cache
def weights_of_the_reader() -> NDArray[np.int64]:
    """Whole numbers `(64, 10)`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    means = np.stack([digits.data[digits.target == label].mean(0) for label in range(10)], 1)
    return np.rint((means - means.mean(1, keepdims=True)) * 64).astype(np.int64)


@pytest.fixture
def reads_digits() -> Answer:
    """A model that gets most digits right."""
    return reader


@pytest.fixture
def reader_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same as `module:function`, in the working directory, which holds its weights."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "weights.npy", weights_of_the_reader())
    (tmp_path / "in_process.py").write_text(READER)
    yield "in_process:scores"
    sys.modules.pop("in_process", None)


READER = """
import numpy as np

weights = np.load("weights.npy")

def scores(images: np.ndarray):
    pixels = np.rint(images.reshape(len(images), -1) * 255).astype(np.int64)
    return (pixels @ weights / 4096).astype(np.float32)
"""


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Makes servers, and stops them."""
    made: list[Served] = []

    def make(model: Answer = linear, shape: tuple[int, ...] = (-1, 1, 8, 8), **more: Any) -> Served:
        made.append(Served(model, list(shape), **more))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def faults() -> type[Fault]:
    return Fault


@pytest.fixture(scope="session")
def in_process() -> Answer:
    """The model that is served, called here."""
    return linear


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring and waiting take no time in tests."""
    pytest.importorskip("httpx", reason="needs the extra `served`")
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
    monkeypatch.setattr("charpy_plugins.wrappers.open_inference_server._WAIT", 0.02)
