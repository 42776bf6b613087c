"""What a server does wrong is told: what, where, found, expected, the next step; what may pass is waited for."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import torch

from charpy.errors import CharpyError, ModelError, ServiceError, SpecError
from charpy.plugins import registry

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def opened(url, **params):
    quick = {"backoff_seconds": 0.01, "ready_seconds": 0.1, "retries": 2, "timeout_seconds": 5.0}
    return registry().create("models", "open_inference", {"url": url, **quick, **params})


def refused(kind, say, work, *arguments):
    """The error of `work`, which is of type `kind` and complete."""
    with pytest.raises(CharpyError, match=say) as caught:
        work(*arguments)
    error = caught.value
    assert type(error) is kind
    assert "http" in error.where
    assert error.hint
    assert error.found is not None
    assert error.expected is not None
    return error


def test_no_server_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v2/models/digits"
    error = refused(ServiceError, "does not answer", opened, url)
    assert "refused" in error.found
    assert "tried 3 times" in error.found
    assert error.exit_code == 4


def test_a_model_that_still_loads_is_waited_for(serve):
    server = serve()
    server.ready = [503, 400, 503]
    opened(server.url, ready_seconds=5.0)
    assert server.ready == []


def test_a_model_that_never_loads(serve):
    server = serve()
    server.ready = [503] * 1000
    error = refused(ServiceError, "not ready", opened, server.url)
    assert "HTTP 503" in error.found


def test_no_such_model(serve):
    error = refused(ServiceError, "does not know the model", opened, serve().url.replace("digits", "numbers"))
    assert "HTTP 404: unknown model" in error.found


@pytest.mark.parametrize("fault", [429, 502, 503, 504, "drop", "cut"])
def test_what_may_pass_is_tried_again(serve, faults, in_process, fault):
    server = serve()
    model = opened(server.url)
    server.log.clear()
    server.faults = [faults(fault) if isinstance(fault, int) else fault] * 2
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert len(server.log) == 3
    server.always = faults(fault) if isinstance(fault, int) else fault
    error = refused(ServiceError, "does not answer", model.predict, IMAGES)
    assert "tried 3 times" in error.found
    assert len(server.log) == 6


@pytest.mark.parametrize("status", [400, 413, 415, 422, 500])
def test_an_error_about_the_images_is_told_at_once(serve, faults, status):
    server = serve()
    model = opened(server.url)
    server.log.clear()
    server.faults = [faults(status, b'{"error": "wrong size"}')]
    error = refused(ModelError, "refuses the images", model.predict, IMAGES)
    assert error.found == f"HTTP {status}: wrong size"
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_lets_nobody_in_any_more_ends_the_run(serve, faults, status):
    server = serve()
    model = opened(server.url)
    server.log.clear()
    server.faults = [faults(status, b"no")]
    refused(ServiceError, "refuses", model.predict, IMAGES)
    assert len(server.log) == 1


def test_pauses_grow_by_chance_and_at_the_server_s_wish(serve, faults, monkeypatch):
    server = serve()
    model = opened(server.url, retries=5, backoff_seconds=1.0)
    pauses: list[float] = []
    monkeypatch.setattr("charpy_plugins.wrappers.open_inference_http.time.sleep", pauses.append)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    server.faults = [faults(503), faults(503), faults(503), faults(429, Retry_After="7"), faults(503, Retry_After=date)]
    model.predict(IMAGES)
    assert [
        low <= pause <= high
        for pause, (low, high) in zip(pauses, [(0.5, 1), (1, 2), (2, 4), (7, 8), (80, 91)], strict=True)
    ] == [True] * 5
    server.faults = [faults(503, Retry_After="9999")]
    refused(ServiceError, "does not answer", model.predict, IMAGES)


def answered(server, faults, body, **headers):
    """The model of a server whose next answer is `body`."""
    model = opened(server.url)
    server.faults = [faults(200, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)]
    return model


def output(**parts):
    whole = {"name": "scores", "datatype": "FP32", "shape": [4, 10], "data": [0.5] * 40}
    return {"model_name": "digits", "outputs": [{**whole, **parts}]}


WRONG = {
    "page": (b"<html><title>Gateway</title></html>", "a page, not JSON"),
    "truncated": (json.dumps(output())[:60].encode(), "cut off"),
    "empty": (b"", "not JSON"),
    "deep": (b"[" * 200_000, "not JSON"),
    "no object": ([1, 2], "does not follow the protocol"),
    "no outputs": ({"model_name": "digits"}, "does not follow the protocol"),
    "other output": (output(name="others"), "wrong form"),
    "other model": ({**output(), "model_name": "letters"}, "wrong form"),
    "fewer rows": (output(shape=[3, 10], data=[0.5] * 30), r"shape \[3, 10\] for a batch of 4"),
    "more rows": (output(shape=[5, 10], data=[0.5] * 50), r"shape \[5, 10\] for a batch of 4"),
    "flat": (output(shape=[40]), "wrong form"),
    "one column": (output(shape=[4, 1], data=[0.5] * 4), "wrong form"),
    "three axes": (output(shape=[4, 5, 2]), "wrong form"),
    "no rows": (output(shape=[], data=[1.0]), "wrong form"),
    "negative": (output(shape=[-4, -10]), "does not follow the protocol"),
    "too few values": (output(data=[0.5] * 39), "39 values"),
    "ragged": (output(data=[[0.5] * 10, [0.5] * 9]), "does not follow the protocol"),
    "texts": (output(data=["0.5"] * 40), "does not follow the protocol"),
    "truth values": (output(data=[True] * 40), "does not follow the protocol"),
    "no data": (output(data=None), "does not follow the protocol"),
    "bytes": (output(datatype="BYTES"), "no tensor of numbers"),
    "whole numbers": (output(datatype="INT64", data=[1] * 40), "expected: scores"),
    "lying length": (b"{}", "does not follow the protocol"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_is_none(serve, faults, name):
    body, says = WRONG[name]
    headers = {"Inference_Header_Content_Length": "999"} if name == "lying length" else {}
    model = answered(serve(), faults, body, **headers)
    refused(ModelError, says, model.predict, IMAGES)


def test_labels_outside_of_their_type_are_no_labels(serve, faults, in_process):
    model = answered(
        serve(lambda values: in_process(values).argmax(1)), faults, output(shape=[4], datatype="UINT8", data=[256] * 4)
    )
    refused(ModelError, "does not follow the protocol", model.predict, IMAGES)


@pytest.mark.parametrize("value", ["NaN", "null", "Infinity", "1e999"])
def test_what_is_no_finite_number_stays_what_it_is(serve, faults, value):
    body = json.dumps(output()).replace("0.5", value, 1).encode()
    scores = answered(serve(), faults, body).predict(IMAGES)
    assert not scores[0, 0].isfinite()
    assert scores.flatten()[1:].isfinite().all()


def test_an_answer_that_is_too_large(serve, faults):
    server = serve()
    model = opened(server.url, answer_mib=1)
    server.faults = [faults(200, b" " * 2**21)]
    refused(ModelError, "too large", model.predict, IMAGES)


def test_a_compressed_answer_is_not_unpacked(serve, faults):
    refused(ModelError, "compressed", answered(serve(), faults, b"..", Content_Encoding="gzip").predict, IMAGES)


def test_redirects_are_not_followed(serve, faults):
    server, elsewhere = serve(), serve()
    model = opened(server.url)
    server.faults = [faults(307, b"", Location=f"{elsewhere.url}/infer")]
    error = refused(ModelError, "redirects", model.predict, IMAGES)
    assert elsewhere.url in error.found
    assert not elsewhere.log


@pytest.mark.parametrize("fault", [0.6, "drip"])
def test_a_slow_server(serve, fault):
    server = serve()
    model = opened(server.url, timeout_seconds=0.2, retries=1)
    server.faults = [fault, fault]
    started = time.monotonic()
    error = refused(ServiceError, "does not answer", model.predict, IMAGES)
    assert "no answer in 0.2 s" in error.found
    assert time.monotonic() - started < 3


def test_a_server_that_comes_back_is_asked_on(serve, in_process):
    server = serve()
    model = opened(server.url)
    server.stop()
    refused(ServiceError, "does not answer", model.predict, IMAGES)
    server.start()
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))


def test_metadata_that_is_none(serve, faults):
    server = serve()
    server.inputs = [{"name": "images", "datatype": "FP32", "shape": "any"}]
    refused(ModelError, "the metadata's inputs", opened, server.url)
    server.get["/v2/models/digits"] = faults(200, b"<html>")
    refused(ModelError, "a page, not JSON", opened, server.url)


def test_two_inputs_or_one_that_takes_no_numbers(serve):
    server = serve()
    server.inputs = [*server.inputs, {**server.inputs[0], "name": "mask"}]
    refused(ModelError, "one batch of images", opened, server.url)
    server.inputs = [{**server.inputs[0], "datatype": "BYTES"}]
    refused(ModelError, "cannot be sent", opened, server.url)


def test_the_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    refused(ModelError, r"charpy\[served\]", opened, "http://127.0.0.1:1/v2/models/m")


def test_certificates_are_checked(serve, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    error = refused(ServiceError, "does not answer", opened, url)
    assert "CERTIFICATE_VERIFY_FAILED" in error.found
    assert "ca_file" in error.hint
    assert opened(url, ca_file=str(certificate)).predict(IMAGES).shape == (4, 10)
    with pytest.raises(SpecError, match="certificates cannot be used"):
        opened(url, ca_file=str(tmp_path / "none.pem"))
