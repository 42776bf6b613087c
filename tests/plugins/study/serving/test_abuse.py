"""Requests that nobody should send, over HTTP: refused, noted, and the tables are as they were."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from charpy_plugins.study.store.store import Store
from charpy_plugins.study.web.app import create_app
from charpy_plugins.study.web.settings import Settings


@pytest.fixture
def study(squares):
    return squares(questions=5, checks=1)


@pytest.fixture
def where(tmp_path):
    return str(tmp_path / "answers.sqlite")


@pytest.fixture
def store(where, study):
    store = Store.open(where, study.document, create=True)
    yield store
    store.close()


@pytest.fixture
def app(study, store):
    return create_app(study, store, Settings())


class Person:
    def __init__(self, app):
        self.client = app.test_client()
        fields = dict(re.findall(r'name="(csrf_token|version)" value="([^"]*)"', self.client.get("/").text))
        assert self.client.post("/join", data=fields | {"adult": "yes", "agree": "yes"}).status_code == 303
        self.token = fields["csrf_token"]
        self.page = self.client.get("/question").text

    def answer(self, **fields):
        form = {"csrf_token": self.token, "position": 0, "label": 1, "confidence": 3} | fields
        return self.client.post("/answer", data=form)

    def images(self):
        return re.findall(r'src="(/stimulus/[^"]+)"', self.page)


@pytest.fixture
def people(app):
    """One who has answered the first question, and one of another condition who has not."""
    first, second = Person(app), Person(app)
    assert first.answer().status_code == 303
    first.page = first.client.get("/question").text
    return first, second


def test_a_forged_condition_is_not_even_read(app, store):
    for _ in range(9):
        client = app.test_client()
        page = client.get("/", query_string={"condition": "perceptible"}).text
        fields = dict(re.findall(r'name="(csrf_token|version)" value="([^"]*)"', page))
        form = fields | {"adult": "yes", "agree": "yes", "condition": "perceptible", "arm": "perceptible"}
        assert client.post("/join", data=form, query_string={"condition": "perceptible"}).status_code == 303
    assert [arm.started for arm in store.progress()] == [3, 3, 3]


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"position": 0}, 409, "replayed"),
        ({"position": 2}, 409, "out of order"),
        ({"position": -1}, 400, "invalid"),
        ({"position": "1; DROP TABLE answers"}, 400, "invalid"),
        ({"position": "9" * 40}, 400, "invalid"),
        ({"position": 1, "label": 10}, 400, "invalid"),
        ({"position": 1, "label": ""}, 400, "invalid"),
        ({"position": 1, "label": "\x00"}, 400, "invalid"),
        ({"position": 1, "label": "\u0661"}, 400, "invalid"),
        ({"position": 1, "confidence": 0}, 400, "invalid"),
        ({"position": 1, "confidence": [1, 2]}, 400, "invalid"),
        ({"position": 1, "csrf_token": ""}, 400, "csrf"),
        ({"position": 1, "csrf_token": "x.y.z"}, 400, "csrf"),
    ],
)
def test_forged_answers_change_nothing_and_are_noted(people, store, rows, where, fields, status, kind):
    first, _ = people
    before = rows(where)
    assert first.answer(**fields).status_code == status
    assert rows(where) == before
    assert store.refusals() == {kind: 1}
    assert first.answer(position=1).status_code == 303, "and the participant goes on"


def test_a_form_with_somebody_elses_csrf_token_is_refused(people, rows, where, store):
    first, second = people
    before = rows(where)
    assert first.answer(position=1, csrf_token=second.token).status_code == 400
    assert rows(where) == before
    assert store.refusals() == {"csrf": 1}


def test_somebody_elses_ids_in_a_form_are_not_read(people, rows, where, store):
    first, second = people
    ids = [participant.id for participant in store.responses().participants]
    stimulus = re.search(r"/stimulus/(\w+)-x1", second.page)[1]
    for participant in ids:
        before = rows(where, "participants", "questions")
        reply = second.answer(position=1, participant=participant, id=participant, stimulus=stimulus)
        assert reply.status_code == 409
        assert rows(where, "participants", "questions") == before
    assert first.answer(position=1, participant=ids[-1]).status_code == 303
    owners = {answer.participant for answer in store.responses().answers}
    assert len(owners) == 1


def test_somebody_elses_images_are_not_shown(people, app, study):
    first, second = people
    for own, other in ((first, second), (second, first)):
        for path in own.images():
            assert own.client.get(path).status_code == 200
            assert other.client.get(path).status_code == 404
            assert app.test_client().get(path).status_code == 404
    for bad in ("/stimulus/%00-x1.png", "/stimulus/..%2f..%2fstudy.json-x1.png", "/stimulus/zz-x99.png"):
        assert first.client.get(bad).status_code == 404


def test_a_changed_cookie_is_nobodys(people, app, rows, where):
    first, _ = people
    name = app.config["SESSION_COOKIE_NAME"]
    value = first.client.get_cookie(name).value
    before = rows(where)
    for forged in (value[:-2] + ("AA" if value[-2:] != "AA" else "BB"), value.split(".", 1)[1], "x", ""):
        client = app.test_client()
        client.set_cookie(name, forged)
        assert client.get("/question").status_code == 303
        assert client.post("/answer", data={"csrf_token": first.token, "position": 1}).status_code == 400
    assert rows(where) == before


def test_a_body_of_ten_megabytes_is_refused(people, rows, where, store):
    first, _ = people
    before = rows(where)
    assert first.answer(position=1, padding="x" * 10_000_000).status_code == 413
    assert rows(where) == before
    assert store.refusals() == {"too large": 1}


@pytest.mark.parametrize("body", ["application/json", "text/plain", ""])
def test_other_kinds_of_bodies_are_refused(people, rows, where, body):
    first, _ = people
    before = rows(where)
    assert first.client.post("/answer", data=b'{"position": 1}', content_type=body).status_code in (400, 415)
    assert rows(where) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_other_methods_are_refused(people, rows, where, method):
    first, _ = people
    before = rows(where)
    for path in ("/", "/join", "/answer", "/withdraw", "/question"):
        assert first.client.open(path, method=method).status_code in (400, 405)
    assert rows(where) == before


def test_a_full_or_read_only_database_answers_503_and_acknowledges_nothing(tmp_path, study, rows):
    where = str(tmp_path / "answers.sqlite")
    store = Store.open(where, study.document, create=True)
    app = create_app(study, store, Settings())
    person = Person(app)
    assert person.answer().status_code == 303
    before = rows(where)

    def read_only(db, _):
        db.execute("PRAGMA query_only = ON")

    event.listen(store._engine, "connect", read_only)
    store._engine.dispose()
    for reply in (person.answer(position=1), person.client.get("/question")):
        assert reply.status_code == 503
        assert "may not have been saved" in reply.text
    fresh = app.test_client()
    fields = dict(re.findall(r'name="(csrf_token|version)" value="([^"]*)"', fresh.get("/").text))
    assert fresh.post("/join", data=fields | {"adult": "yes", "agree": "yes"}).status_code == 503
    assert rows(where) == before
    event.remove(store._engine, "connect", read_only)
    store._engine.dispose()
    assert person.answer(position=1).status_code == 303, "and when there is room again, it goes on"
    store.close()
