"""What keeps the pages and the answers safe: headers, tokens of forms, known hosts, and errors that tell nothing."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, abort, current_app, render_template, request
from flask_wtf.csrf import CSRFError, CSRFProtect
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header

from charpy_plugins.study.store.store import Refused
from charpy_plugins.study.web import prolific
from charpy_plugins.study.web.served import served
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
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_TEXTS: Final = {
    400: ("This could not be read", "The request was not complete. Nothing was changed."),
    404: ("There is nothing here", "This page does not exist, or is not yours to see."),
    405: ("This cannot be done", "Nothing was changed."),
    413: ("This is too much", "The request was too large. Nothing was changed."),
    415: ("This could not be read", "The request was not a form of these pages. Nothing was changed."),
    429: ("Too many requests", "Please wait a minute, then go on. Nothing was lost."),
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
    """A short page; `again` with a link that goes on with the study."""
    return render_template("message.html", heading=heading, texts=texts, again=again), status


def note(kind: str, participant: str | None = None) -> None:
    """Count a refused request; where the database is away, it stays uncounted."""
    try:
        served().store.note(kind, f"{request.method} {request.endpoint or ''}", participant, refused=True)
    except SQLAlchemyError as cause:
        current_app.logger.error("a refusal could not be noted: %s", type(cause).__name__)


def _host() -> str:
    """The Host header without its port, in lower case; empty where it is none that a host can have."""
    name, colon, port = request.host.lower().rpartition(":")
    return name if colon and port.isdigit() else request.host.lower()


def _refused(refused: Refused) -> tuple[str, int]:
    note(refused.kind)
    heading = {409: "Already done", 404: "Not found"}.get(refused.status, "This did not work")
    return page(refused.status, heading, refused.text, again=True)


def _forged(error: CSRFError) -> tuple[str, int]:
    note("csrf")
    texts = ("This form is too old, or your browser does not keep cookies. Nothing was changed.",)
    return page(400, "This form cannot be used", *texts, "Please allow cookies for this site, and go on.", again=True)


def _http(error: HTTPException) -> tuple[str, int] | HTTPException:
    code = error.code or 500
    if code < 400:
        return error
    if code >= 500:
        note("error")
        texts = ("Something went wrong here. Your answers so far are kept.", "Please try again in a minute.")
        return page(code, "Our mistake", *texts, again=True)
    if code in (400, 413, 415):
        note({413: "too large", 415: "no form"}.get(code, "bad request"))
    return page(code, *_TEXTS.get(code, _TEXTS[400]), again=True)


def _unavailable(error: SQLAlchemyError) -> tuple[str, int]:
    current_app.logger.error("the answers database failed: %s", type(error).__name__)
    texts = ("Your last answer may not have been saved; all before it are.", "Please try again in a minute.")
    return page(503, "A short break", *texts, again=True)
