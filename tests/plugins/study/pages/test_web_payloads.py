"""Hostile texts in the study, in parameters, forms, paths and headers: shown as text, stored nowhere, run never."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from charpy.reports.inert import visible
from charpy_plugins.study.document import Consent, Texts
from charpy_plugins.study.web.settings import Settings

PAGES = ("/", "/question", "/leave", "/withdraw", "/nothing")
FORMS = {"/join": "/", "/withdraw": "/withdraw", "/operator/enter": "/operator/"}
WEIRD = (
    "\x00 nul",
    "\u202e turned",
    "x" * 19_999,
    " \n ",
    "{{ 7 * 7 }}",
    "%s %(x)s {0}",
    "\r\nA: b",
)


def texts(payload: str) -> dict[str, object]:
    """A study in which everything that a participant may read is the payload."""
    return {
        "labels": tuple(f"{payload}{number}" for number in range(10)),
        "texts": Texts(
            title=payload,
            instructions=payload,
            question=payload,
            confidence=payload,
            scale=(payload,) * 5,
            consent=Consent(version=payload, text=payload),
            thanks=payload,
            contact=payload,
        ),
    }


def outline(page) -> list[tuple[str, frozenset[str]]]:
    """Tags and names of attributes, in order; a scale with long words has its own look, which is no matter here."""
    return [(tag, frozenset(given)) for tag, given in page.elements]


def walk(person) -> list:
    """Every page of a whole run; the attention check aside, whose place is drawn."""
    found = [person.page("/")]
    person.join()
    found += [person.page(path) for path in PAGES[1:4]] + [person.page("/nothing", status=404)]
    return [*found, person.finish().page("/thanks")]


@pytest.mark.slow
def test_hostile_texts_of_a_study_are_text(serve, come, hostile):
    harmless = walk(come(serve(checks=0, questions=1, **texts("harmless"))))
    assert len(hostile.XSS) == 30
    for payload in hostile.XSS:
        pages = walk(come(serve(checks=0, questions=1, **texts(payload))))
        assert [outline(page) for page in pages] == [outline(page) for page in harmless]
        shown = [page.text.count(payload) for page in pages]
        assert shown == [page.text.count("harmless") for page in harmless]
        assert shown[:2] == [
            6,
            17,
        ]  # title twice, instructions, consent's version and text, contact; 17 in the question
        for page in pages:
            targets = [given[name] for _, given in page.elements for name in ("href", "src", "action") if name in given]
            assert all(target.startswith("/") and not target.startswith("//") for target in targets)


@pytest.mark.parametrize("payload", WEIRD, ids=range(len(WEIRD)))
def test_odd_texts_of_a_study_do_not_break_a_page(serve, come, payload):
    pages = walk(come(serve(checks=0, questions=1, **texts(payload))))
    if payload.strip() and "\n" not in payload:
        assert visible(payload) in pages[0].text


def inputs(hostile) -> list[str]:
    return [*hostile.XSS, *hostile.SQL, *hostile.HIDDEN, "%00", "../../etc/passwd", "\U0001f600" * 500]


def test_hostile_parameters_and_forms_change_nothing_and_come_back_nowhere(serve, come, at, kept, hostile):
    app = serve(Settings(operator_token="t" * 32))
    person, stranger = come(app).join(), come(app)
    person.answer()
    question = person.page("/question")
    forms = {form: stranger.page(path) for form, path in FORMS.items()}
    before = kept(app)
    for payload in inputs(hostile):
        for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"):
            ids = {"PROLIFIC_PID": "a" * 24, "STUDY_ID": "b" * 24, "SESSION_ID": "c" * 24, name: payload}
            found = stranger.client.get("/", query_string=ids)
            assert (found.status_code, payload in found.text) == (400, False)
        for field in ("position", "label", "confidence", "csrf_token"):
            fields = {"label": 1, "confidence": 3, field: payload}
            found = person.send(question, "/answer", **fields)
            assert (found.status_code, payload in found.text) == (400, False)
        for form, field in (("/withdraw", "code"), ("/operator/enter", "token"), ("/join", "version")):
            found = stranger.send(forms[form], form, adult="yes", agree="yes", **{field: payload})
            assert (400 <= found.status_code < 500, payload in found.text) == (True, False)
        for path in (f"/{quote(payload, safe='')}", f"/stimulus/{quote(payload, safe='')}-x1.png"):
            found = person.client.get(path)
            assert (found.status_code, payload in found.text) == (404, False)
    assert kept(app) == before
    assert {arm.answers for arm in at(app).store.progress()} == {0, 1}


def test_hostile_headers_come_back_nowhere(serve, come, kept, hostile):
    app = serve()
    person = come(app).join()
    before = kept(app)
    for payload in (*hostile.XSS, *hostile.SQL):
        for name in (
            "User-Agent",
            "Referer",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "Accept-Language",
            "Origin",
            "Host",
        ):
            found = person.client.get("/leave", headers={name: payload})
            assert found.status_code == (400 if name == "Host" else 200)
            assert payload not in found.text
            assert payload not in str(found.headers)
    assert kept(app) == before


def test_hostile_kinds_stay_out_of_the_log(serve, come, at, hostile):
    app = serve()
    person = come(app).join()
    question = person.page("/question")
    for payload in hostile.XSS:
        person.send(question, "/answer", label=payload, confidence=1)
        person.client.get("/" + quote(payload, safe=""))
    assert at(app).store.refusals() == {"invalid": 30}
