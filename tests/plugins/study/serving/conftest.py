"""A small study, an answers database of either kind, and `charpy study serve` as a process of its own."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from sqlalchemy import select

from charpy_plugins.study.document import Condition, Consent, Source, Stimulus, StudyDocument, Texts
from charpy_plugins.study.store.connect import address, connect
from charpy_plugins.study.store.tables import schema
from charpy_plugins.study.studyfile import Study, digest, write_study

CONDITIONS = ("benign", "imperceptible", "perceptible")


def make_study(originals: int = 40, **changes: Any) -> Study:
    """Three conditions of grey squares."""
    stimuli, images = [], {}
    for place, condition in enumerate(CONDITIONS):
        for number in range(originals):
            found = hashlib.sha256(f"{condition} {number}".encode()).hexdigest()[:16]
            digests = []
            for size in (1, 2, 4):
                buffer = io.BytesIO()
                Image.new("L", (8 * size, 8 * size), (7 * number + place) % 256).save(buffer, "PNG")
                images[found, size] = buffer.getvalue()
                digests.append(digest(buffer.getvalue()))
            prediction = (number + place) % 10
            stimuli.append(
                Stimulus(
                    id=found,
                    condition=condition,
                    original=f"o{number}",
                    label=number % 10,
                    prediction=prediction,
                    digests=tuple(digests),
                )
            )
    fields = {
        "name": "squares",
        "source": Source(dataset="squares", shape=(1, 8, 8), class_names=tuple("0123456789")),
        "labels": tuple("0123456789"),
        "conditions": tuple(Condition(name=name, kind="benign", text="t") for name in CONDITIONS),
        "stimuli": tuple(stimuli),
        "texts": Texts(title="Squares", instructions="Look.", consent=Consent(version="1", text="I agree.")),
    }
    return Study(StudyDocument(**(fields | changes)), images)


@pytest.fixture(scope="session")
def squares() -> Callable[..., Study]:
    """Makes studies: `squares(originals, questions=10, ...)`."""
    return make_study


@pytest.fixture(scope="session")
def document() -> StudyDocument:
    """25 questions and 2 checks, 40 stimuli a condition."""
    return make_study().document


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A PostgreSQL of our own on a Unix socket; the folder of the socket."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(programs[-1]) if programs else shutil.which("initdb")
    if found is None:
        pytest.skip("needs PostgreSQL's programs initdb and postgres")
    folder = Path(tempfile.mkdtemp(prefix="charpy-pg-", dir="/tmp"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    data = folder / "data"
    options = ["-D", str(data), "-U", "charpy", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
    subprocess.run([found, *options], check=True, cwd=folder, capture_output=True, **who)
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=60", "fsync=off"]
    command = [str(Path(found).with_name("postgres")), "-D", str(data), *(f"--{setting}" for setting in settings)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **who)
    try:
        _wait_for(folder, server)
        yield str(folder)
    finally:
        server.send_signal(3)  # immediate: nothing in it is needed any more
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host=str(folder), user="charpy", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL does not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)


@pytest.fixture
def postgres(cluster: str) -> str:
    """The URL of an empty schema; a database for each test would be nine hundred files."""
    import psycopg

    name = f"charpy_{secrets.token_hex(6)}"
    with psycopg.connect(host=cluster, user="charpy", dbname="postgres", autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {name}")
    return f"postgresql://charpy@/postgres?host={cluster}&options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty answers database of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "answers.sqlite")
    return str(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def rows() -> Callable[..., dict[str, list[tuple[Any, ...]]]]:
    """Every row of every table but `events`, read past the store."""

    def read(where: str, *but: str) -> dict[str, list[tuple[Any, ...]]]:
        engine = connect(address(where))
        tables = [table for table in schema.sorted_tables if table.name not in ("events", *but)]
        with engine.connect() as db:
            found = {table.name: sorted(map(tuple, db.execute(select(table))), key=repr) for table in tables}
        engine.dispose()
        return found

    return read


class Visitor:
    """A browser without scripts, as far as these pages need one: cookies, and the fields of the last page."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.port, self.source = port, source
        self.cookie = self.page = self.token = ""
        self.status = 0
        self._connection: HTTPConnection | None = None

    def ask(self, method: str, path: str, form: dict[str, Any] | None = None, **headers: str) -> int:
        """The status; redirections are not followed."""
        body = None if form is None else urlencode(form)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            if self._connection is None:
                self._connection = HTTPConnection("127.0.0.1", self.port, 30, source_address=(self.source, 0))
            self._connection.request(method, path, body, sent | headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except Exception:
            self.close()
            raise
        self._keep(answer)
        if content:
            self.page = content.decode(errors="replace")
            self.token = self.field("csrf_token") or self.token
        self.status = answer.status
        return self.status

    def close(self) -> None:
        """Close the connection; cookies stay."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def field(self, name: str) -> str:
        """The value of a hidden field of the last page."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        return found[1] if found else ""

    def join(self) -> int:
        """Agree; the first page is there already."""
        form = {
            "csrf_token": self.field("csrf_token"),
            "version": self.field("version"),
            "adult": "yes",
            "agree": "yes",
        }
        return self.ask("POST", "/join", form)

    def answer(self, label: int, confidence: int, **fields: Any) -> int:
        """Answer the question of the last page."""
        form = {"csrf_token": self.token, "position": self.field("position"), "label": label}
        return self.ask("POST", "/answer", form | {"confidence": confidence} | fields)

    def _keep(self, answer: HTTPResponse) -> None:
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                self.cookie = value.split(";")[0]


class Serving:
    """`charpy study serve` as a process; what it printed is in `log`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "serve.log"
        self.port, self.process = 0, None

    def start(self, *options: str) -> None:
        """Start it, at the same port as before, and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "charpy",
            "study",
            "serve",
            "squares.study",
            "--port",
            str(self.port),
            *options,
        ]
        with self.log.open("ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while (found := re.search(rb"participants  \S+?(?::(\d+))?/\n", self.text(begin))) is None:
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(self.log.read_text())
            time.sleep(0.05)
        heard = re.search(rb"listening on \S+:(\d+)\n", self.text(begin))
        self.port = int(heard[1] if heard else found[1])

    def text(self, begin: int = 0) -> bytes:
        """What it printed."""
        return self.log.read_bytes()[begin:]

    def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def visitor() -> Iterator[Callable[..., Visitor]]:
    """Makes visitors: `visitor(port)`."""
    made: list[Visitor] = []

    def make(port: int, source: str = "127.0.0.1") -> Visitor:
        made.append(Visitor(port, source))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """A study file in a folder of its own, to be served there; killed at the end."""
    write_study(make_study(), tmp_path / "squares.study")
    server = Serving(tmp_path)
    yield server
    if server.process is not None and server.process.poll() is None:
        server.end(9)
