"""What a participant sees: consent, questions, thanks, and the way out."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TypeAlias

from flask import Blueprint, Response, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirect

from charpy_plugins.study.responses import Participant, State
from charpy_plugins.study.store.outcomes import DECLINED
from charpy_plugins.study.store.store import Question, Refused
from charpy_plugins.study.web import prolific
from charpy_plugins.study.web.keys import keys
from charpy_plugins.study.web.padding import padded
from charpy_plugins.study.web.security import forget, note, page
from charpy_plugins.study.web.served import refusal, said, served

participant = Blueprint("participant", __name__)

_NUMBER = re.compile(r"[0-9]{1,6}")
_BROWSER = "browser "
"""Begins the id of who comes without a panel: drawn at the first page, so that a form sent twice joins once."""

_NARROW = 9
"""Letters of a word that fits in a fifth of a phone's width."""

_KEPT = "private, max-age=3600, immutable"
Page: TypeAlias = str | tuple[str, int] | Redirect


@participant.get("/")
def start() -> Page:
    """Instructions and the consent form, or on to where this browser was."""
    visit = prolific.visit_of(request.args)
    if visit is not None:
        session["panel"] = list(visit)
    if visit is None or visit.person == session.get("person"):
        found = _who()
        if found is not None:
            return _go("thanks" if found.state is State.FINISHED else "question")
    if served().settings.panel and "panel" not in session:
        return page(400, "from-prolific", said("from-prolific-text"))
    person = session["panel"][0] if "panel" in session else _BROWSER + session.get("browser", "")
    why = served().store.closed(served().settings.per_condition, person)
    if why is not None:
        return _closed(why)
    if "browser" not in session:
        session["browser"] = secrets.token_hex(16)
    session.permanent = True
    return render_template("start.html", document=served().study.document, version=_version())


@participant.post("/join")
def join() -> Page:
    """Agree: become a participant, or the one that this browser or this visit already is."""
    store, settings = served().store, served().settings
    if "panel" in session:
        person, visit = session["panel"]
    elif settings.panel or "browser" not in session:
        raise Refused("no visit", 400, "Please open the study's first page again, and agree there.")
    else:
        person, visit = _BROWSER + session["browser"], session["browser"]
    if session.get("person") == person and _who() is not None:
        return _go("question")
    if request.form.get("adult") != "yes" or request.form.get("agree") != "yes":
        raise Refused("no consent", 400, "Please tick both boxes if you want to take part.")
    if request.form.get("version") != _version():
        raise Refused("consent", 400, "The consent form has changed. Please read it again.")
    consent = store.document.texts.consent
    try:
        admitted = store.join(consent.version, person, visit, settings.per_condition)
    except Refused as refused:
        if refused.kind not in ("full", "paused"):
            raise
        return _closed(refused)
    session["person"], session["participant"] = person, admitted.token
    return _go("question")


@participant.post("/decline")
def decline() -> Page:
    """Do not agree: nothing is kept but that somebody did not."""
    served().store.note(DECLINED)
    away = _on(served().settings.screened_out)
    forget()
    return away or _go("goodbye")


@participant.get("/goodbye")
def goodbye() -> Page:
    """After not agreeing."""
    return page(200, "goodbye", said("goodbye-text"))


@participant.get("/question")
def question() -> Page:
    """The next image, its labels and the scale of confidence."""
    found = _who()
    if found is None:
        return _go("start")
    shown = served().store.question(found)
    if shown is None:
        return _go("thanks")
    document = served().study.document
    return render_template(
        "question.html",
        document=document,
        shown=shown,
        images=_images(shown),
        keys=keys(document.labels),
        narrow=all(len(word) <= _NARROW for step in document.texts.scale for word in step.split()),
        code=served().store.code(found.id),
    )


@participant.get("/stimulus/<string:stimulus>-x<int:size>.png")
def stimulus(stimulus: str, size: int) -> Response:
    """One image, for whom it was drawn; as long as every other one of its size."""
    found, data = _who(), served().study.images.get((stimulus, size))
    if found is None or data is None or not served().store.shows(found, stimulus):
        abort(404)
    data = padded(data, served().lengths[size])
    return Response(data, mimetype="image/png", headers={"Cache-Control": _KEPT})


@participant.post("/answer")
def answer() -> Page:
    """Keep an answer, then show the next question."""
    found = _who()
    if found is None:
        raise Refused("nobody", 403, "This browser does not take part in the study, or not any more.")
    last = served().store.answer(found, _number("position"), _number("label"), _number("confidence"))
    return _go("thanks" if last else "question")


@participant.get("/thanks")
def thanks() -> Page:
    """The end: the code for withdrawal, and the way back to the panel."""
    found = _who()
    if found is None:
        return _go("start")
    if found.state is not State.FINISHED:
        return _go("question")
    settings = served().settings
    anybody = session.get("person", _BROWSER).startswith(_BROWSER)
    back = "" if anybody else prolific.address(settings.completion, "completion")
    code = served().store.code(found.id)
    document, laboratory = served().study.document, settings.laboratory
    return render_template("thanks.html", document=document, code=code, back=back, laboratory=laboratory)


@participant.post("/next")
def next_participant() -> Page:
    """In a laboratory: who has finished makes room for somebody else before the same browser."""
    found = _who()
    if not served().settings.laboratory:
        abort(404)
    if found is not None and found.state is not State.FINISHED:
        return _go("question")
    forget()
    return _go("start")


@participant.get("/leave")
def leave() -> Page:
    """Stop here: come back later, or withdraw."""
    found = _who()
    if found is None:
        return _go("start")
    return render_template("leave.html", document=served().study.document, code=served().store.code(found.id))


@participant.get("/withdraw")
def withdraw_form() -> Page:
    """Where a code can be typed."""
    return render_template("withdraw.html", document=served().study.document, unknown=False)


@participant.post("/withdraw")
def withdraw() -> Page:
    """Erase the answers of whose code it is."""
    try:
        served().store.withdraw(request.form.get("code", "")[:64])
    except Refused as refused:
        note(refused.kind)
        return render_template("withdraw.html", document=served().study.document, unknown=True), refused.status
    if _who() is None:
        forget()
    return _go("withdrawn")


@participant.get("/withdrawn")
def withdrawn() -> Page:
    """After withdrawal."""
    more = [said("withdrawn-prolific")] if served().settings.completion else []
    return page(200, "withdrawn", said("withdrawn-text"), *more)


def _who() -> Participant | None:
    """Whose browser this is; a cookie of somebody who withdrew, or of other answers, is nobody's."""
    token = session.get("participant")
    found = served().store.participant(token) if isinstance(token, str) else None
    if token is not None and found is None:
        session.pop("participant", None)
        session.pop("person", None)
    return found


def _version() -> str:
    """Stands for the consent form in the page: its version and its text, for neither may have changed since."""
    return hashlib.sha256(served().study.document.texts.consent.model_dump_json().encode()).hexdigest()[:16]


def _closed(why: Refused) -> Page:
    """For newcomers who come too late, or while the study is paused."""
    note(why.kind)
    away = _on(served().settings.full) if why.kind == "full" else None
    return away or page(why.status, "closed", refusal(why.text))


def _go(name: str) -> Redirect:
    return redirect(url_for(f"participant.{name}"), 303)


def _on(target: str) -> Redirect | None:
    """To the panel, for who came from there."""
    url = prolific.address(target, "")
    return redirect(url, 303) if url and "panel" in session else None


def _number(name: str) -> int:
    """A field of the form.

    Raises:
        Refused: it lacks, comes twice, or is no number.
    """
    values = request.form.getlist(name)
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]):
        raise Refused("invalid", 400, "Please choose one of the labels, and how confident you are.")
    return int(values[0])


def _images(shown: Question) -> list[tuple[str, int, int, int]]:
    """Address, size, width and height in CSS pixels (from the header of the PNG) of each size of an image."""
    images, sizes = served().study.images, served().study.document.sizes
    found = []
    for size in sizes:
        header = images[shown.stimulus, size][16:24]
        width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:])
        found.append((url_for("participant.stimulus", stimulus=shown.stimulus, size=size), size, width, height))
    return found
