"""A study whose every text is an attack, and participants who attack the study."""

from __future__ import annotations

import pytest

from charpy_plugins.study.document import Consent, Texts

PAGES = ("/", "/withdraw", "/goodbye", "/leave", "/question", "/nowhere", "/operator/")


def attacked(make_study, payload: str, other: str):
    """Every text that a participant or the operator reads has the payloads in it."""
    words = {
        name: f"{payload} {name} {other}" for name in ("title", "instructions", "question", "confidence", "thanks")
    }
    texts = Texts(
        **words,
        scale=tuple(f"{step}{payload}" for step in range(5)),
        consent=Consent(version=other, text=f"{payload}\n\n{other}"),
        contact=payload,
    )
    labels = (payload, other, f"{payload}{other}", *"0123456")
    return make_study(
        originals=3, questions=2, checks=1, sizes=(1,), name=f"{payload} {other}", labels=labels, texts=texts
    )


@pytest.fixture(scope="module")
def hostile_server(serve, make_study, hostile):
    """All thirty at once: each is a part of the texts of one study."""
    return serve(attacked(make_study, "\n\n".join(hostile.XSS), " ".join((*hostile.HIDDEN, *hostile.SQL))))


def assert_inert(visitor, hostile) -> None:
    page = visitor.page
    assert page.evaluate(f"window.{hostile.MARK}") is None
    assert (
        page.evaluate("document.querySelectorAll('[onerror],[onload],[onfocus],[onmouseover],[ontoggle]').length") == 0
    )
    assert (
        page.evaluate("document.querySelectorAll('iframe,svg,math,video,base,[style],script:not([src])').length") == 0
    )


def test_the_payloads_are_as_many_as_promised(hostile):
    for name, count in (("XSS", 30), ("SQL", 10), ("CSV", 10)):
        assert len(set(getattr(hostile, name))) == count


@pytest.mark.slow
def test_payloads_in_every_text_are_shown_inert(hostile_server, visit, hostile):
    visitor = visit(hostile_server)
    visitor.expected = {404}
    shown = ""
    for path in PAGES:
        visitor.open(path)
        assert_inert(visitor, hostile)
        shown += visitor.page.inner_text("main")
    visitor.join()
    while visitor.at_question:
        assert_inert(visitor, hostile)
        shown += visitor.page.inner_text("main")
        for label in range(2):
            visitor.page.locator("input[name=label]").nth(label).hover()
            visitor.page.locator("input[name=label]").nth(label).focus()
        visitor.answer()
    assert_inert(visitor, hostile)
    shown += visitor.page.inner_text("main")
    tidy = " ".join(shown.split())
    for payload in hostile.XSS:
        assert tidy.count(" ".join(payload.split())) >= 5, payload
    assert "\u202e" not in shown
    assert "[U+202E]" in shown
    assert len(hostile_server.newest()[1]) == 3


def test_the_operator_sees_them_inert(hostile_server, visit, hostile):
    visitor = visit(hostile_server).open("/operator/")
    visitor.page.get_by_label("Token").fill(hostile_server.token.read_text())
    visitor.submit("/operator/enter")
    assert_inert(visitor, hostile)
    assert hostile.XSS[0] in visitor.page.inner_text("main")


def test_payloads_of_a_participant_change_nothing(short, visit, hostile):
    visitor = visit(short).join().answer()
    before = short.responses()
    token = visitor.page.locator("form[action$='/answer'] input[name=csrf_token]").get_attribute("value")
    payloads = (*hostile.XSS[::3], *hostile.SQL, *hostile.CSV, *hostile.HIDDEN)  # fewer than the limit of 40 in 10 s
    for number, payload in enumerate(payloads):
        field = ("label", "position", "confidence")[number % 3]
        form = {"csrf_token": token, "position": "1", "label": "1", "confidence": "1", field: payload}
        found = visitor.context.request.post(short.url + "/answer", form=form, max_redirects=0)
        assert found.status == 400, (field, payload)
        assert payload not in found.text()
    assert short.responses().answers == before.answers
