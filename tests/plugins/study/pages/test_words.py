"""The words around a study's texts: overridable by key, in any language, on every page a participant can come to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from markupsafe import escape
from pydantic import ValidationError

import charpy_plugins.study as study_package
from charpy.errors import SpecError
from charpy_plugins.study.build.spec import read_build_spec
from charpy_plugins.study.build.texts import written
from charpy_plugins.study.document import Consent, Texts
from charpy_plugins.study.web.settings import Settings
from charpy_plugins.study.words import WORDS, direction, word

ROOT = Path(study_package.__file__).parent
STRANGE = {
    key: f"§{number}§ " + " ".join(re.findall(r"\{[a-z]+\}", text)) for number, (key, text) in enumerate(WORDS.items())
}
"""A language in which no word of English is left."""

SPOKEN = ("alt", "aria-label", "title", "placeholder", "data-on", "data-off")


def texts(**more):
    given = {"title": "§t§", "instructions": "§i§", "question": "§q§", "confidence": "§c§", "thanks": "§d§"}
    scale = ("§1", "§2", "§3", "§4", "§5")
    return Texts(**given, scale=scale, consent=Consent(version="1", text="§a§"), contact="§w§", **more)


def every_page(serve, come, **changes):
    """Everything that somebody is shown, by the way to it."""
    app = serve(Settings(completion="C0DE", laboratory=True), **changes)
    person, shown = come(app), {}
    for path in ("/", "/withdraw", "/goodbye", "/withdrawn", "/nowhere"):
        shown[path] = person.client.get(path).text
    page = person.page("/withdraw")
    shown["unknown code"] = person.send(page, "/withdraw", code="ABCD").text
    shown["no box"] = person.send(person.page("/"), "/join").text
    shown["no token"] = person.client.post("/join").text
    shown["405"] = person.client.get("/join").text
    shown["415"] = person.client.post("/join", data="{}", content_type="application/json").text
    shown["413"] = person.client.post("/join", data={"x": "y" * 100_000}).text
    person.join()
    question = 0
    while "/answer" in (page := person.page("/question")).forms:
        shown[f"question {question}"] = person.client.get("/question").text
        shown["leave"] = person.client.get("/leave").text
        question += 1
        shown["no choice"] = person.send(page, "/answer", confidence=1).text
        person.send(page, "/answer", label=1, confidence=1)
        shown["replayed"] = person.send(page, "/answer", label=1, confidence=1).text
    shown["thanks"] = person.client.get("/thanks").text
    return shown


def test_a_study_in_another_language_has_no_english_left(serve, come, page_class):
    changes = {"texts": texts(language="ar-EG", interface=STRANGE), "labels": tuple("0123456789")}
    for way, html in every_page(serve, come, **changes).items():
        page = page_class(html)
        assert page.elements[0] == ("html", {"lang": "ar-EG", "dir": "rtl"}), way
        spoken = [page.text]
        for _, given in page.elements:
            spoken += [
                value or "" for name, value in given.items() if name in SPOKEN or name.startswith("data-missing")
            ]
        left = re.sub(r"\b[A-Z0-9]{4}(-[A-Z0-9]{4}){3}\b", "", " ".join(spoken))  # codes
        left = left.replace("Digits before people", "")
        assert not re.findall(r"[A-Za-z]{3,}", left), (way, re.findall(r"[A-Za-z]{3,}", left))


def test_what_is_not_said_stays_english(serve, come):
    for way, html in every_page(serve, come).items():
        assert '<html lang="en" dir="ltr">' in html, way
        assert "§" not in html
        assert not re.search(r"\{[a-z]+\}", html), way  # every place is filled in


def test_every_word_is_used_and_every_refusal_has_words():
    used = "".join(path.read_text() for kind in ("*.html", "*.py") for path in (ROOT / "web").rglob(kind))
    calls = [
        node
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused"
    ]
    told = {call.args[2].value for call in calls if isinstance(call.args[2], ast.Constant)} - {"Please sign in first."}
    assert len(told) > 8
    assert told <= set(WORDS.values())
    assert len(set(WORDS.values())) == len(WORDS) or {
        text for text in WORDS.values() if list(WORDS.values()).count(text) > 1
    }.isdisjoint(told)
    for key, text in WORDS.items():
        parts = ("stored-", "missing-", "refused-")
        assert f'"{key}"' in used or text in told or key.startswith(parts), key


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        ({"contnue": "Weiter"}, "did you mean continue"),
        ({"xyzzy": "Weiter"}, "no page has the words"),
        ({"question": "Frage {number}"}, "must have {number}, {total}"),
        ({"continue": "Weiter {now}"}, "must have no place"),
        ({"continue": ""}, "at least 1 character"),
    ],
)
def test_words_that_no_page_has_are_refused(interface, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        texts(interface=interface)
    options = {"texts": {"interface": interface}}
    with pytest.raises(SpecError, match=r"texts\.interface"):
        read_build_spec(None, options, ("benign",))


@pytest.mark.parametrize("language", ["", "english language", "e", "de_DE", 'en"><script>'])
def test_a_language_that_is_no_tag_is_refused(language):
    with pytest.raises(ValidationError, match="language"):
        texts(language=language)


def test_build_takes_words_and_language():
    interface = {"continue": "Weiter", "question": "Frage {number} von {total}"}
    spec = read_build_spec(None, {"texts": {"language": "de", "interface": interface}}, ("benign",))
    made = written(spec.texts.given(), {}, questions=5, checks=0, sizes=3, labels=10)
    assert (made.language, made.interface) == ("de", interface)
    assert word(made.interface, "start") == "Start"


def test_hostile_words_are_inert(serve, come):
    evil = "<script>alert(1)</script>\"' {code}"
    app = serve(
        texts=texts(
            interface={"code-notice": evil, "continue": evil.replace("{code}", ""), "images": '" onload="x {sizes}'}
        )
    )
    html = come(app).join().client.get("/question").text
    assert "<script>alert" not in html
    assert '" onload="x' not in html
    assert str(escape(evil.split(" {")[0])) in html


def test_a_place_is_filled_in_once(serve, come):
    """A text of a study that looks like a place is no place."""
    app = serve(texts=texts(interface={}).model_copy(update={"contact": "{contact} {code}"}))
    assert "Contact: {contact} {code}" in come(app).page("/").text


@pytest.mark.parametrize(
    ("language", "way"),
    [("en", "ltr"), ("fa", "rtl"), ("az-Arab", "rtl"), ("AR", "rtl"), ("ar-Latn", "ltr"), ("pt-BR", "ltr")],
)
def test_direction(language, way):
    assert direction(language) == way
