"""`charpy study serve` as a process: a crowd, kills at random instants, and what it refuses to start with."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections import Counter
from http.client import HTTPException

import pytest
from sqlalchemy import select

from charpy.cli.app import run_program
from charpy_plugins.study.store.connect import address, connect
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.store.tables import answers, events, participants
from charpy_plugins.study.studyfile import read_study, write_study


def at_once(jobs):
    """Run every job in a thread of its own; the first error, if any."""
    errors = []

    def run(job):
        try:
            job()
        except (Exception, AssertionError) as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("each", [pytest.param(each, marks=pytest.mark.slow) for each in (3, 10)])
def test_200_people_join_at_once_and_all_their_answers_are_kept(each, serving, visitor, document):
    serving.start()
    people = [visitor(serving.port) for _ in range(200)]
    barrier = threading.Barrier(200)
    sent = {}

    def take_part(number):
        me, given = people[number], []
        assert me.ask("GET", "/") == 200
        barrier.wait(60)
        assert me.join() == 303
        for position in range(each):
            given.append((position, random.randrange(10), random.randint(1, 5)))
            assert me.answer(*given[-1][1:], position=position) == 303
        sent[number] = given
        me.close()

    at_once([lambda number=number: take_part(number) for number in range(200)])
    store = Store.open(serving.folder / "squares.study.answers.sqlite", document)
    read = store.responses()
    assert len(read.participants) == 200
    assert sorted(arm.started for arm in store.progress()) == [66, 67, 67]
    kept = {}
    for answer in read.answers:
        kept.setdefault(answer.participant, []).append((answer.position, answer.label, answer.confidence))
    assert Counter(map(tuple, kept.values())) == Counter(map(tuple, sent.values()))
    assert sum(map(len, kept.values())) == 200 * each
    assert store.refusals() == {}
    store.close()
    assert serving.end(signal.SIGTERM) == 143


class Stubborn:
    """Takes part whatever happens to the server, and remembers which answers were acknowledged."""

    def __init__(self, me, stop):
        self.me, self.stop = me, stop
        self.sent, self.acknowledged, self.tokens = {}, {}, set()

    def run(self):
        while not self.stop.is_set():
            try:
                self._go_on()
            except (OSError, HTTPException):
                self.me.close()
                time.sleep(0.02)

    def _go_on(self):
        me = self.me
        if me.ask("GET", "/question") == 303:  # nobody yet, or done
            if self.acknowledged:
                assert len(self.acknowledged) >= 26
                self.stop.wait(0.05)
                return
            assert me.ask("GET", "/") in (200, 303)
            if me.status == 200:
                assert me.join() == 303
            return
        assert me.status == 200
        position, label, confidence = int(me.field("position")), random.randrange(10), random.randint(1, 5)
        assert all(known < position for known in self.acknowledged), "an acknowledged answer was asked for again"
        self.sent.setdefault(position, []).append((label, confidence))
        status = me.answer(label, confidence)
        assert status in (303, 409)
        if status == 303:
            self.acknowledged[position] = (label, confidence)


def answered(people):
    return [len(person.acknowledged) for person in people]


def wait_until(people, enough):
    until = time.monotonic() + 60
    while not enough(answered(people)) and time.monotonic() < until:
        time.sleep(0.01)
    assert enough(answered(people)), answered(people)


@pytest.mark.parametrize(("kind", "kills"), [("sqlite", 3), pytest.param("postgresql", 2, marks=pytest.mark.slow)])
def test_kills_at_random_instants_lose_no_acknowledged_answer(kind, kills, serving, visitor, document, request, rows):
    where = str(serving.folder / "answers.sqlite")
    if kind == "postgresql":
        where = request.getfixturevalue("postgres")
    serving.start("--answers", where)
    stop = threading.Event()
    people = [Stubborn(visitor(serving.port), stop) for _ in range(9)]
    arms = {}

    def kill():
        try:
            for _ in range(kills):
                enough = sum(answered(people)) + 3
                wait_until(people, lambda given, enough=enough: sum(given) >= enough)
                time.sleep(random.uniform(0, 0.4))
                serving.end(signal.SIGKILL)
                arms.update({row[0]: row[1] for row in rows(where)["participants"] if arms.setdefault(row[0], row[1])})
                serving.start("--answers", where)
            wait_until(people, lambda given: min(given) >= 5)
        finally:
            stop.set()

    at_once([kill, *(person.run for person in people)])
    found = rows(where)
    joined = {row[0]: row[1] for row in found["participants"]}
    assert len(joined) == 9, "whoever joined came back as the same participant"
    assert all(joined[one] == arm for one, arm in arms.items())
    assert max(Counter(joined.values()).values()) == 3
    kept = {one: {row[1]: row[2:4] for row in found["answers"] if row[0] == one} for one in joined}
    claimed = set()
    for person in people:
        (match,) = [one for one in joined if all(kept[one].get(at) == what for at, what in person.acknowledged.items())]
        claimed.add(match)
        assert sorted(kept[match]) == list(range(len(kept[match])))
        assert all(what in person.sent[at] for at, what in kept[match].items()), "nothing was kept that nobody sent"
    assert len(claimed) == 9


def test_a_server_told_to_end_finishes_what_it_has_begun(serving, visitor, rows):
    serving.start()
    me = visitor(serving.port)
    me.ask("GET", "/")
    me.join()
    me.ask("GET", "/question")
    where = serving.folder / "squares.study.answers.sqlite"
    engine = connect(address(where))
    statuses = []
    with engine.begin():  # somebody else writes: the answer has to wait
        asked = threading.Thread(target=lambda: statuses.append(me.answer(3, 4)))
        asked.start()
        time.sleep(0.7)
        serving.process.send_signal(signal.SIGINT)
        time.sleep(0.7)
        assert serving.process.poll() is None
    asked.join()
    assert serving.process.wait(20) == 130
    assert statuses == [303]
    assert [row[2:4] for row in rows(str(where))["answers"]] == [(3, 4)]
    assert b"Traceback" not in serving.text()
    assert b"every answer that was acknowledged is stored" in serving.text()
    engine.dispose()


def test_no_address_is_kept_or_logged(serving, visitor):
    token = serving.folder / "token"
    token.write_text("a token of 16 or more\n")
    serving.start("--operator-token-file", token.name)
    me = visitor(serving.port, "127.0.0.77")
    headers = {"X-Forwarded-For": "198.51.100.23", "Forwarded": "for=198.51.100.23"}
    me.ask("GET", "/", **headers)
    me.join()
    me.ask("GET", "/question", **headers)
    me.answer(3, 4)
    me.ask("POST", "/answer", {"position": "1"}, **headers)  # forged: noted
    me.ask("POST", "/operator/enter", {"token": "x"}, **headers)
    me.ask("GET", "/" + "x" * 3000, **headers)
    for _ in range(130):
        me.ask("POST", "/answer", {}, **headers)  # too often: noted
    me.close()
    with socket.create_connection(("127.0.0.1", serving.port), source_address=("127.0.0.77", 0)) as raw:
        raw.sendall(b"NO HTTP AT ALL\r\n\r\n")
        raw.recv(100)
    serving.end(signal.SIGTERM)
    files = [file for file in serving.folder.iterdir() if file.suffix != ".study"]
    assert {"serve.log", "squares.study.answers.sqlite"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        for text in (b"127.0.0.77", b"198.51.100.23", socket.inet_aton("198.51.100.23"), b"a token of 16 or more"):
            assert text not in content or file == token, (file, text)
    engine = connect(address(serving.folder / "squares.study.answers.sqlite"))
    with engine.connect() as db:
        kinds = Counter(db.execute(select(events.c.kind)).scalars())
        assert db.execute(select(participants.c.person)).scalar_one() != ""
        assert len(db.execute(select(answers)).all()) == 1
    engine.dispose()
    assert {"csrf", "rate", "bad request"} <= set(kinds)
    assert kinds["rate"] < 10


def test_a_large_body_ends_before_the_application_and_is_noted(serving, rows):
    serving.start()
    where = str(serving.folder / "squares.study.answers.sqlite")
    before = rows(where)
    head = b"POST /join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    pieces = b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 300
    bodies = [b"Content-Length: %d\r\n\r\n" % length + b"x" * length for length in (100_000, 10_000_000)]
    for body in (*bodies, pieces):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as raw:
            sender = threading.Thread(target=send, args=(raw, head + body), daemon=True)
            sender.start()
            assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
        sender.join()
    assert rows(where) == before
    engine = connect(address(where))
    with engine.connect() as db:
        assert "too large" in db.execute(select(events.c.kind)).scalars().all()
    engine.dispose()


def send(raw, data):
    try:
        raw.sendall(data)
    except OSError:
        return  # the server has hung up, as it should


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "nothing would be encrypted"),
        (["--host", "0.0.0.0", "--public-url", "http://study.example.org"], "nothing would be encrypted"),
        (["--host", "192.0.2.1", "--insecure"], "cannot listen there"),
        (["--host", "no.such.host.invalid", "--insecure"], "no such address"),
        (["--public-url", "ftp://x"], "no address of a site"),
        (["--public-url", "https://x/folder"], "no address of a site"),
        (["--port", "70000"], "no such port"),
        (["--per-condition", "0"], "too few"),
        (["--threads", "0"], "too few"),
        (["--panel", "--laboratory"], "one or the other"),
        (["--completion-code", "C0DE", "--completion-url", "https://x.org/"], "two ways out"),
        (["--completion-url", "javascript:alert(1)"], "--completion-url: participants cannot be sent there"),
        (["--screen-out-url", "https://x.org/\r\nSet-Cookie: a=b"], "--screen-out-url: participants cannot be sent"),
        (["--full-url", "http://x.org/"], "--full-url: participants cannot be sent there"),
        (["--operator-token-file", "short"], "can be guessed"),
        (["--operator-token-file", "nothing"], "cannot be read"),
        (["--answers", "mysql://a:b@c/d"], "no such kind of database"),
    ],
)
def test_refuses_to_start(options, words, squares, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_study(squares(), tmp_path / "squares.study")
    (tmp_path / "short").write_text("1234")
    port = [] if "--port" in options else ["--port", "0"]
    assert run_program(["study", "serve", "squares.study", *port, *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("*.sqlite*"))  # nothing is made before all is known to be right


def test_refuses_a_port_that_is_taken_and_a_study_that_is_not_ready(squares, tmp_path, monkeypatch, capsys, document):
    monkeypatch.chdir(tmp_path)
    write_study(squares(), tmp_path / "squares.study")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_program(["study", "serve", "squares.study", "--port", str(port)]) == 2
        assert "choose another --port" in capsys.readouterr().err
        assert not list(tmp_path.glob("*.sqlite*"))
    texts = document.texts.model_copy(update={"instructions": "Ask [[researcher]] at [[place]]. [[researcher]]!"})
    write_study(squares(texts=texts), tmp_path / "squares.study")
    assert run_program(["study", "serve", "squares.study", "--port", "0"]) == 2
    assert "[[researcher]], [[place]]\n" in capsys.readouterr().err
    bare = squares()
    stimuli = [stimulus for stimulus in bare.document.stimuli if stimulus.condition != "benign"]
    empty = bare.document.model_copy(update={"stimuli": tuple(stimuli)})
    write_study(bare._replace(document=empty), tmp_path / "squares.study")
    assert run_program(["study", "serve", "squares.study", "--port", "0"]) == 2
    assert "a condition has no images" in capsys.readouterr().err


def test_nobody_can_connect_before_the_database_exists(squares, tmp_path, monkeypatch):
    import charpy_plugins.study.web.server as server

    answers = tmp_path / "squares.study.answers.sqlite"
    write_study(squares(), tmp_path / "squares.study")
    tried, reserved, opened = [], server.reserved, Store.open

    def kept(*where):
        tried.append(reserved(*where))
        return tried[0]

    def late(*given, **more):
        assert not answers.exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(tried[0].getsockname(), timeout=5)
        tried.append("refused")
        return opened(*given, **more)

    monkeypatch.setattr(server, "reserved", kept)
    monkeypatch.setattr(Store, "open", late)
    monkeypatch.setattr(server, "serve_until_told", lambda *given, **more: 15)
    assert run_program(["study", "serve", str(tmp_path / "squares.study"), "--port", "0"]) == 143
    assert tried[1:] == ["refused"]
    assert answers.exists()


def test_refuses_the_answers_of_another_study(squares, tmp_path, monkeypatch, capsys, document):
    monkeypatch.chdir(tmp_path)
    write_study(squares(questions=24), tmp_path / "squares.study")
    Store.open(tmp_path / "squares.study.answers.sqlite", document, create=True).close()
    assert run_program(["study", "serve", "squares.study", "--port", "0"]) == 2
    assert "another study" in capsys.readouterr().err


def test_a_missing_extra_is_named(squares, tmp_path, monkeypatch, capsys):
    import charpy_plugins.study.cli.serve as module

    write_study(squares(), tmp_path / "squares.study")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "waitress" else object())
    assert run_program(["study", "serve", str(tmp_path / "squares.study")]) == 2
    assert "no waitress" in (error := capsys.readouterr().err)
    assert "pip install 'charpy[study]'" in error


def test_a_preview_keeps_its_answers_apart_and_says_so(serving, visitor, squares, document):
    texts = document.texts.model_copy(update={"instructions": "Ask [[researcher]]."})
    write_study(squares(texts=texts), serving.folder / "squares.study")
    serving.start("--preview")
    me = visitor(serving.port)
    assert me.ask("GET", "/") == 200
    assert "This is a preview" in me.page
    assert me.join() == 303
    serving.end(signal.SIGTERM)
    changed = read_study(serving.folder / "squares.study").document
    assert not (serving.folder / "squares.study.answers.sqlite").exists()
    store = Store.open(serving.folder / "squares.study.preview.sqlite", changed)
    assert store.simulated == "preview"
    assert len(store.responses().participants) == 1
    store.close()


def test_behind_a_proxy_with_tls_cookies_are_secure_and_hosts_are_known(serving, visitor):
    serving.start("--public-url", "https://study.example.org", "--proxy")
    me = visitor(serving.port)
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "study.example.org",
    }
    assert me.ask("GET", "/", **forwarded) == 200
    assert me.cookie.startswith("__Host-")
    assert me.ask("GET", "/", **(forwarded | {"X-Forwarded-Host": "elsewhere.example.org"})) == 400
    assert b"https://study.example.org/operator/" in serving.text()
