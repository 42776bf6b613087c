"""Participants without a browser: what they see is parsed, what they send is a form of the page before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import Study
from charpy_plugins.study.web.app import create_app
from charpy_plugins.study.web.served import KEY, Served
from charpy_plugins.study.web.settings import Settings

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """A page in parts: its elements as (tag, attributes) in order, its text, and the hidden fields of its forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.forms: dict[str, dict[str, str]] = {}
        self.text = ""
        self._open: list[str] = []
        self._form = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "form":
            self._form = given["action"] or ""
            self.forms[self._form] = {}
        if tag == "input" and given.get("type") == "hidden":
            self.forms[self._form][given["name"] or ""] = given["value"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of a tag with these values of attributes."""
        return [given for name, given in self.elements if name == tag and having.items() <= given.items()]


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()

    def page(self, path: str = "/", status: int = 200, **more: Any) -> Page:
        """Where a GET ends."""
        found = self.client.get(path, follow_redirects=True, **more)
        assert found.status_code == status, found.text
        return Page(found.text)

    def send(self, page: Page, action: str, **fields: Any) -> TestResponse:
        """A form of a page with what was filled in; None leaves a field out."""
        data = {**page.forms[action], **fields}
        return self.client.post(action, data={name: value for name, value in data.items() if value is not None})

    def join(self, path: str = "/") -> Person:
        """Agree."""
        found = self.send(self.page(path), "/join", adult="yes", agree="yes")
        assert (found.status_code, found.location) == (303, "/question"), found.text
        return self

    def answer(self, label: int = 1, confidence: int = 3, **fields: Any) -> TestResponse:
        """Answer the question that is next."""
        return self.send(self.page("/question"), "/answer", **{"label": label, "confidence": confidence, **fields})

    def finish(self) -> Person:
        """Answer all that is left."""
        while self.answer().location != "/thanks":
            pass
        return self

    def copy(self) -> Person:
        """Another browser with the same cookies."""
        other = Person(self.app)
        with self.client.session_transaction() as mine, other.client.session_transaction() as theirs:
            theirs.update(mine)
        return other

    @property
    def code(self) -> str:
        """For withdrawal."""
        return self.page("/leave").forms["/withdraw"]["code"]


@pytest.fixture(scope="session")
def page_class() -> type[Page]:
    return Page


@pytest.fixture(scope="session")
def changed(study: Study, make_study: Callable[..., Study]) -> Callable[..., Study]:
    """A study with other fields; its images are drawn once, unless they are what changes."""
    own = {name: getattr(study.document, name) for name in StudyDocument.model_fields}

    def change(**changes: Any) -> Study:
        if set(changes) - set(own) or "sizes" in changes:
            return make_study(**changes)
        return Study(StudyDocument(**{**own, **changes}), study.images)

    return change


@pytest.fixture
def serve(tmp_path: Path, changed: Callable[..., Study]) -> Iterator[Callable[..., Flask]]:
    """`serve(settings, clock=, **changes of the study)`: an app with answers of its own; 4 questions and 1 check."""
    stores: list[Store] = []

    def start(settings: Settings | None = None, *, clock: Callable[[], float] | None = None, **changes: Any) -> Flask:
        study = changed(**{"questions": 4, "checks": 1, **changes})
        more = {} if clock is None else {"clock": clock}
        stores.append(Store.open(tmp_path / f"answers-{len(stores)}.sqlite", study.document, create=True, **more))
        return create_app(study, stores[-1], settings)

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def come() -> Callable[[Flask], Person]:
    """`come(app)`: somebody new."""
    return Person


@pytest.fixture
def at() -> Callable[[Flask], Served]:
    """`at(app)`: its study, store and settings."""
    return lambda app: app.extensions[KEY]


@pytest.fixture
def kept(at: Callable[[Flask], Served]) -> Callable[[Flask], Any]:
    """`kept(app)`: all that is stored of participants, but when they were last seen."""

    def all_of_it(app: Flask) -> Any:
        found = at(app).store.responses()
        return found._replace(participants=tuple(one._replace(seen=0.0) for one in found.participants))

    return all_of_it
