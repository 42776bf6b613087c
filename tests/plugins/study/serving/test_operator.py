"""The operator's page and the limits: who gets in, what it shows, and what a pause does."""

from __future__ import annotations

import re
import time

import pytest

from charpy_plugins.study.store.store import Store
from charpy_plugins.study.web import operator as operator_module
from charpy_plugins.study.web.app import create_app
from charpy_plugins.study.web.settings import Settings

TOKEN = "a token that is long enough"


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, squares, clock):
    store = Store.open(tmp_path / "a.sqlite", squares(questions=3, checks=1).document, create=True, clock=clock)
    yield store
    store.close()


@pytest.fixture
def app(store, squares):
    return create_app(squares(questions=3, checks=1), store, Settings(operator_token=TOKEN, per_condition=2))


def csrf(client, path="/operator/"):
    return re.search(r'csrf_token" value="([^"]*)"', client.get(path).text)[1]


def signed_in(app):
    client = app.test_client()
    reply = client.post("/operator/enter", data={"csrf_token": csrf(client), "token": TOKEN})
    assert (reply.status_code, reply.location) == (303, "/operator/")
    return client


def cells(text, caption):
    """The rows of the table with this caption, as texts."""
    (table,) = [part for part in re.findall(r"<table>.*?</table>", text, re.DOTALL) if f"<caption>{caption}" in part]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [re.sub(r"\s+", " ", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_without_a_token_there_is_no_page(store, squares):
    client = create_app(squares(questions=3, checks=1), store, Settings()).test_client()
    assert client.get("/operator/").status_code == 404
    token = csrf(client, "/")
    for path in ("enter", "pause", "resume"):
        assert client.post(f"/operator/{path}", data={"csrf_token": token, "token": ""}).status_code == 404
    assert not store.paused


@pytest.mark.parametrize("wrong", ["", "a token", TOKEN.upper(), TOKEN + "x", "\x00", "\U0001f600", "x" * 5000])
def test_another_token_opens_nothing(app, store, wrong):
    client = app.test_client()
    reply = client.post("/operator/enter", data={"csrf_token": csrf(client), "token": wrong})
    assert reply.status_code == 403
    assert "This is not the token." in reply.text
    assert "Participants" not in client.get("/operator/").text
    assert client.post("/operator/pause", data={"csrf_token": csrf(client)}).status_code == 403
    assert not store.paused
    assert store.refusals() == {"operator": 1, "operator token": 1}


def test_a_token_in_the_address_opens_nothing(app):
    client = app.test_client()
    assert "Participants" not in client.get(f"/operator/?token={TOKEN}").text


def test_forms_without_their_csrf_token_change_nothing(app, store):
    client = signed_in(app)
    for path in ("pause", "resume", "leave", "enter"):
        assert client.post(f"/operator/{path}", data={"token": TOKEN}).status_code == 400
        assert client.get(f"/operator/{path}").status_code == 405
    assert not store.paused
    assert "Participants" in client.get("/operator/").text


def test_the_cookie_ends_with_time_with_signing_out_and_with_another_token(app, store, squares, monkeypatch):
    client = signed_in(app)
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr(operator_module.time, "time", lambda: now + operator_module.SIGNED_IN + 5)
        assert "Sign in" in client.get("/operator/").text
    assert "Sign out" in client.get("/operator/").text
    other = create_app(squares(questions=3, checks=1), store, Settings(operator_token="another token, as long"))
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    elsewhere = other.test_client()
    elsewhere.set_cookie(cookie.key, cookie.value)
    assert "Sign in" in elsewhere.get("/operator/").text
    assert client.post("/operator/leave", data={"csrf_token": csrf(client)}).status_code == 303
    assert "Sign in" in client.get("/operator/").text
    assert cookie.http_only


def test_what_the_page_shows_is_what_happened(app, store, clock):
    finished, working, gone, dropped = (store.join("1").participant for _ in range(4))
    for place, participant in enumerate((finished, gone)):
        while (question := store.question(participant)) is not None:
            clock.now += 2 + place
            right = question.asked if question.asked is not None else 1
            store.answer(participant, question.position, right if place else (right + 1) % 10, 3)
    store.withdraw(store.code(gone.id))
    clock.now += 31 * 60
    store.question(working)
    store.answer(working, 0, 1, 3)
    store.note("replayed", refused=True)
    store.note("replayed", refused=True)
    text = signed_in(app).get("/operator/").text
    people = {row[0]: row[1:6] for row in cells(text, "Participants")[1:]}
    assert list(people) == ["benign", "imperceptible", "perceptible", "All"]
    assert people["All"] == ["4", "1", "1", "1", "1"]
    joined = [participant.condition for participant in (finished, working, gone, dropped)]
    assert [people[name][0] for name in list(people)[:3]] == [str(joined.count(name)) for name in list(people)[:3]]
    given = {row[0]: row[1:] for row in cells(text, "Answers")[1:]}
    assert sum(int(row[0]) for row in given.values()) == 3 + 1
    assert given[finished.condition][1:5] == ["40", "0", "0", "1"]
    assert given[finished.condition][6] == "1 of 1"
    if finished.condition != working.condition:
        assert given[finished.condition][5] == "2.0 s"
    assert cells(text, "Requests")[1:] == [["replayed", "2"]]
    assert store.document.fingerprint in text
    assert "version 1" in text
    assert "until a condition has 2 participants" in text


def test_a_pause_is_kind_to_newcomers_and_leaves_the_others_alone(app, store):
    working = app.test_client()
    form = {"version": "1", "adult": "yes", "agree": "yes"}
    page = working.get("/").text
    version = re.search(r'name="version" value="([^"]*)"', page)[1]
    form = {"csrf_token": csrf(working, "/"), "version": version, "adult": "yes", "agree": "yes"}
    waiting = app.test_client()
    late = form | {"csrf_token": csrf(waiting, "/")}
    assert working.post("/join", data=form).status_code == 303
    operator = signed_in(app)
    operator.post("/operator/pause", data={"csrf_token": csrf(operator)})
    assert "Paused." in operator.get("/operator/").text
    for reply in (app.test_client().get("/"), waiting.post("/join", data=late)):
        assert reply.status_code == 503
        assert "The study is paused at the moment. Please come back later." in reply.text
    assert working.get("/question").status_code == 200
    answer = {"csrf_token": form["csrf_token"], "position": 0, "label": 1, "confidence": 1}
    assert working.post("/answer", data=answer).status_code == 303
    operator.post("/operator/resume", data={"csrf_token": csrf(operator)})
    assert waiting.post("/join", data=late).status_code == 303
    assert len(store.responses().participants) == 2


def test_texts_of_a_study_are_inert_and_a_preview_says_so(tmp_path, squares):
    strange = squares(name="<script>alert(1)</script>\u202e {{ 7*7 }}")
    store = Store.open(tmp_path / "b.sqlite", strange.document, create=True, simulated="<i>robots</i>")
    text = signed_in(create_app(strange, store, Settings(operator_token=TOKEN))).get("/operator/").text
    assert "<script>alert" not in text
    assert "<i>" not in text
    assert "{{ 7*7 }}" in text
    assert "[U+202E]" in text
    assert "SIMULATED: &lt;i&gt;robots&lt;/i&gt;" in text
    store.close()


def test_headers_allow_no_inline_script(app):
    reply = signed_in(app).get("/operator/")
    assert "script-src 'self'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", reply.text)


@pytest.fixture
def limited(store, squares):
    return create_app(squares(questions=3, checks=1), store, Settings(operator_token=TOKEN, limited=True))


def test_the_token_cannot_be_guessed_by_trying(limited, store):
    client = limited.test_client()
    token = csrf(client)
    tries = [client.post("/operator/enter", data={"csrf_token": token, "token": str(n)}).status_code for n in range(9)]
    assert tries == [403] * 5 + [429] * 4
    reply = client.post("/operator/enter", data={"csrf_token": token, "token": TOKEN})
    assert reply.status_code == 429
    assert "Too many requests" in reply.text
    elsewhere = limited.test_client()
    at = {"REMOTE_ADDR": "192.0.2.9"}
    found = re.search(r'csrf_token" value="([^"]*)"', elsewhere.get("/operator/", environ_overrides=at).text)[1]
    reply = elsewhere.post("/operator/enter", data={"csrf_token": found, "token": TOKEN}, environ_overrides=at)
    assert reply.status_code == 303
    assert store.refusals()["rate"] == 1  # one event a second, not one a request


def test_one_line_with_many_ipv6_addresses_is_one_visitor(limited):
    def tried(address: str) -> int:
        client, at = limited.test_client(), {"REMOTE_ADDR": address}
        found = re.search(r'csrf_token" value="([^"]*)"', client.get("/operator/", environ_overrides=at).text)[1]
        form = {"csrf_token": found, "token": "wrong"}
        return client.post("/operator/enter", data=form, environ_overrides=at).status_code

    assert [tried(f"2001:db8:1:2::{number:x}") for number in range(7)] == [403] * 5 + [429] * 2
    assert tried("2001:db8:1:3::1") == 403
    assert [tried(f"::ffff:192.0.2.{number}") for number in range(6)] == [403] * 6


def test_one_participant_who_floods_does_not_stop_the_next_one(limited, store):
    people = []
    for _ in range(2):
        client = limited.test_client()
        page = client.get("/").text
        fields = dict(re.findall(r'name="(csrf_token|version)" value="([^"]*)"', page))
        assert client.post("/join", data=fields | {"adult": "yes", "agree": "yes"}).status_code == 303
        people.append((client, fields["csrf_token"]))
    (noisy, token), (quiet, other) = people
    form = {"csrf_token": token, "position": 0, "label": 1, "confidence": 1}
    statuses = [noisy.post("/answer", data=form).status_code for _ in range(60)]
    assert statuses[0] == 303
    assert statuses[1:40] == [409] * 39
    assert statuses[40:] == [429] * 20
    assert quiet.post("/answer", data=form | {"csrf_token": other}).status_code == 303
    assert len(store.responses().answers) == 2


def test_forged_forms_are_limited_before_they_are_noted(limited, store):
    client = limited.test_client()
    statuses = [client.post("/withdraw", data={"code": "x"}).status_code for _ in range(80)]
    assert statuses == [400] * 60 + [429] * 20
    assert store.refusals()["csrf"] == 60


def test_a_lecture_hall_behind_one_address_gets_in(limited, store):
    for _ in range(60):
        client = limited.test_client()
        fields = dict(re.findall(r'name="(csrf_token|version)" value="([^"]*)"', client.get("/").text))
        reply = client.post("/join", data=fields | {"adult": "yes", "agree": "yes"})
        assert reply.status_code == 303
    assert [arm.started for arm in store.progress()] == [20, 20, 20]
    assert "rate" not in store.refusals()
