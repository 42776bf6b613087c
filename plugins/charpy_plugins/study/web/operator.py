"""The operator's page: how far the study is, and whether it takes newcomers; behind a token."""

from __future__ import annotations

import hmac
import time
from typing import Final

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirect

from charpy_plugins.study.placeholders import placeholders
from charpy_plugins.study.store.codes import digest
from charpy_plugins.study.store.store import Refused
from charpy_plugins.study.web.security import OPERATOR, note
from charpy_plugins.study.web.served import served

operator = Blueprint("operator", __name__, url_prefix="/operator")

SIGNED_IN: Final = 8 * 3600
"""Seconds until the token is asked for again."""


@operator.get("/")
def overview() -> str | tuple[str, int]:
    """Progress, answers and refusals; or the form for the token."""
    _open_at_all()
    if not _signed_in():
        return render_template("operator_enter.html", wrong=False)
    here = served()
    document = here.study.document
    return render_template(
        "operator.html",
        document=document,
        simulated=here.store.simulated,
        unfilled=placeholders(document),
        paused=here.store.paused,
        per_condition=here.settings.per_condition,
        arms=here.store.progress(),
        measures=here.store.measures(),
        refusals=here.store.refusals(),
        now=_clock(time.time()),
        clock=_clock,
    )


@operator.post("/enter")
def enter() -> str | tuple[str, int] | Redirect:
    """Sign in with the token, which is sent in the form and never stands in an address."""
    _open_at_all()
    given = request.form.get("token", "").strip()
    if not hmac.compare_digest(digest(given), digest(served().settings.operator_token)):
        note("operator token")
        return render_template("operator_enter.html", wrong=True), 403
    session[OPERATOR] = [_mark(), time.time() + SIGNED_IN]
    return _back()


@operator.post("/leave")
def leave() -> Redirect:
    """Sign out."""
    session.pop(OPERATOR, None)
    return _back()


@operator.post("/pause")
def pause() -> Redirect:
    """Take no newcomers; whoever has joined goes on."""
    return _paused(True)


@operator.post("/resume")
def resume() -> Redirect:
    """Take newcomers again."""
    return _paused(False)


def _paused(paused: bool) -> Redirect:
    _open_at_all()
    if not _signed_in():
        raise Refused("operator", 403, "Please sign in first.")
    served().store.pause(paused)
    served().store.note("paused" if paused else "resumed")
    return _back()


def _back() -> Redirect:
    return redirect(url_for("operator.overview"), 303)


def _open_at_all() -> None:
    if not served().settings.operator_token:
        abort(404)


def _signed_in() -> bool:
    """The cookie is signed: it cannot be made up; another token, or too long ago, and it counts no more."""
    match session.get(OPERATOR):
        case [str(mark), int() | float() as until]:
            return hmac.compare_digest(mark, _mark()) and 0 <= until - time.time() <= SIGNED_IN
    return False


def _mark() -> str:
    return digest(f"signed in with {served().settings.operator_token}")


def _clock(seconds: float | None) -> str:
    """In UTC, to the second."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
