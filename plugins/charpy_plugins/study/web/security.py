"""What keeps the pages and the answers safe: headers, tokens of forms, known hosts, and errors that tell nothing."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, abort, current_app, render_template, request, session
from flask_wtf.csrf import CSRFError, CSRFProtect
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header

from charpy_plugins.study.store.store import Refused
from charpy_plugins.study.web import prolific
from charpy_plugins.study.web.served import refusal, said, served
from charpy_plugins.study.web.settings import Settings

HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
}
OPERATOR: Final = "operator"
"""Where the session says that the operator is signed in."""

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_TEXTS: Final = {  # keys of `words`
    400: ("unreadable", "unreadable-text"),
    404: ("nothing-here", "nothing-here-text"),
    405: ("cannot-be-done", "nothing-changed"),
    413: ("too-much", "too-much-text"),
    415: ("unreadable", "no-form-text"),
    429: ("too-often", "too-often-text"),
}


def policy(settings: Settings) -> str:
    """The Content-Security-Policy: nothing but our own files, forms to us and to where we send people on."""
    ends = (prolific.address(settings.screened_out, ""), prolific.address(settings.full, ""))
    forms = " ".join(["'self'", *sorted({prolific.origin(end) for end in ends if end})])
    own = "img-src 'self'; style-src 'self'; script-src 'self'"
    return f"default-src 'none'; {own}; form-action {forms}; frame-ancestors 'none'; base-uri 'none'"


def guard(app: Flask, settings: Settings) -> None:
    """Put all of it around an app."""
    headers = {"Content-Security-Policy": policy(settings), **HEADERS}
    if settings.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    @app.before_request
    def check() -> None:
        host = _host()
        if not host or (settings.allowed_hosts and host not in settings.allowed_hosts):
            abort(400)
        if (request.content_length or 0) > app.config["MAX_CONTENT_LENGTH"]:
            abort(413)
        if request.method == "POST":
            if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
                raise Refused("cross-site", 400, "This form was sent from another site. Nothing was changed.")
            if parse_options_header(request.content_type)[0] not in _FORMS:
                abort(415)

    CSRFProtect(app)

    @app.after_request
    def seal(response: Response) -> Response:
        for name, value in headers.items():
            response.headers[name] = value
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    app.register_error_handler(Refused, _refused)
    app.register_error_handler(CSRFError, _forged)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(SQLAlchemyError, _unavailable)


def page(status: int, heading: str, *texts: str, again: bool = False) -> tuple[str, int]:
    """A short page of `texts` under a heading of this key; `again` with a link that goes on with the study.

    Who has not begun is shown the way to the first page instead.
    """
    onward = ("go-on" if "participant" in session else "to-the-first-page") if again else ""
    return render_template("message.html", heading=said(heading), texts=texts, onward=onward), status


def note(kind: str, participant: str | None = None) -> None:
    """Count a refused request; where the database is away, it stays uncounted."""
    try:
        served().store.note(kind, f"{request.method} {request.endpoint or ''}", participant, refused=True)
    except SQLAlchemyError as cause:
        current_app.logger.error("a refusal could not be noted: %s", type(cause).__name__)


def forget() -> None:
    """Whoever took part with this browser; an operator who is signed in here stays so."""
    for key in set(session) - {OPERATOR}:
        session.pop(key)


def _host() -> str:
    """The Host header without its port, in lower case; empty where it is none that a host can have."""
    name, colon, port = request.host.lower().rpartition(":")
    return name if colon and port.isdigit() else request.host.lower()


def _refused(refused: Refused) -> tuple[str, int]:
    note(refused.kind)
    heading = {409: "already-done", 404: "not-found"}.get(refused.status, "did-not-work")
    return page(refused.status, heading, refusal(refused.text), again=True)


def _forged(error: CSRFError) -> tuple[str, int]:
    note("csrf")
    return page(400, "old-form", said("old-form-text"), said("allow-cookies"), again=True)


def _http(error: HTTPException) -> tuple[str, int] | HTTPException:
    code = error.code or 500
    if code < 400:
        return error
    if code >= 500:
        note("error")
        return page(code, "our-mistake", said("our-mistake-text"), said("try-again"), again=True)
    if code in (400, 413, 415):
        note({413: "too large", 415: "no form"}.get(code, "bad request"))
    heading, text = _TEXTS.get(code, _TEXTS[400])
    return page(code, heading, said(text), again=True)


def _unavailable(error: SQLAlchemyError) -> tuple[str, int]:
    current_app.logger.error("the answers database failed: %s", type(error).__name__)
    return page(503, "break", said("break-text"), said("try-again"), again=True)
