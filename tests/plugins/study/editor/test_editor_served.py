"""The command as a program: the printed address, what the real server lets through, and its end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest


@pytest.fixture
def program(study):
    command = [sys.executable, "-m", "charpy", "study", "edit", str(study), "--level", "10"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = urlsplit(process.stderr.readline().removeprefix("open ").strip())
    yield process, address
    process.kill()
    process.communicate()


def ask(address, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


def test_the_program_serves_one_browser_on_loopback_until_it_is_interrupted(program, study):
    process, address = program
    assert address.hostname == "127.0.0.1"
    assert ask(address, "GET", "/")[0] == 401
    assert ask(address, "GET", address.path, Host="evil.example")[0] == 403
    status, headers, _ = ask(address, "GET", address.path)
    assert status == 303
    cookie = dict(headers)["Set-Cookie"]
    assert cookie.startswith(f"charpy_edit_{address.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, _, page = ask(address, "GET", "/", Cookie=cookie.split(";")[0])
    assert status == 200
    assert b"within\n    10 pixels" in page
    assert ask(address, "GET", address.path)[0] == 401
    before = study.read_bytes()
    try:
        status = ask(address, "POST", "/reload", b"x" * 10_000_000, Cookie=cookie.split(";")[0])[0]
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # the server has closed before the whole of it was sent
    assert status == 413
    assert ask(address, "GET", "/", Cookie=cookie.split(";")[0])[0] == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "0 of 4 originals are painted" in out
    assert study.read_bytes() == before
