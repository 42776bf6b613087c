"""The web application of one study."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from flask import Flask
from markupsafe import Markup, escape
from werkzeug.middleware.proxy_fix import ProxyFix

from charpy.reports.inert import visible
from charpy_plugins.study.store.opening import PREVIEW
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import Study
from charpy_plugins.study.web import prolific, security
from charpy_plugins.study.web.limits import limit
from charpy_plugins.study.web.operator import operator
from charpy_plugins.study.web.padding import lengths
from charpy_plugins.study.web.participant import participant
from charpy_plugins.study.web.served import KEY, Served
from charpy_plugins.study.web.settings import Settings
from charpy_plugins.study.words import direction, filled, word

LARGEST_BODY = 64 * 1024
"""Bytes of a request; a form of these pages has a few hundred."""

REMEMBERED = timedelta(days=7)
"""How long a browser that was closed may come back."""

_JOINERS = "\n\u200c\u200d"
"""Line breaks, and the two joiners that Persian and Indian scripts are written with."""


def create_app(study: Study, store: Store, settings: Settings | None = None) -> Flask:
    """The application; a WSGI server runs it.

    Raises:
        SpecError: an address of the settings to which nobody can be sent.
    """
    settings = settings or Settings()
    for name in ("completion", "screened_out", "full"):
        prolific.address(getattr(settings, name), name)
    app = Flask(__name__)
    name = f"charpy_{study.document.fingerprint[:12]}"  # cookies do not tell ports apart: one name a study
    app.config.update(
        SECRET_KEY=store.secret,
        MAX_CONTENT_LENGTH=LARGEST_BODY,
        MAX_FORM_MEMORY_SIZE=LARGEST_BODY,
        MAX_FORM_PARTS=50,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        SEND_FILE_MAX_AGE_DEFAULT=600,
        SESSION_COOKIE_NAME=f"__Host-{name}" if settings.secure else name,
        SESSION_REFRESH_EACH_REQUEST=False,  # an image that arrives late must not bring an older cookie back
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure,
        PERMANENT_SESSION_LIFETIME=REMEMBERED,
        WTF_CSRF_TIME_LIMIT=None,  # a page may stay open for long: the token lasts as long as the cookie
        WTF_CSRF_SSL_STRICT=False,  # would ask for the Referer header, which these pages never let a browser send
    )
    app.jinja_options = {"finalize": _inert, "trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.filters["paragraphs"] = _paragraphs
    app.jinja_env.globals["preview"] = store.simulated == PREVIEW
    app.jinja_env.globals["language"] = study.document.texts.language
    app.jinja_env.globals["direction"] = direction(study.document.texts.language)
    app.jinja_env.globals["say"] = partial(_say, study.document.texts.interface)
    app.extensions[KEY] = Served(study, store, settings, lengths(study.images))
    if settings.limited:
        limit(app)
    security.guard(app, settings)
    app.register_blueprint(participant)
    app.register_blueprint(operator)
    if settings.proxies:
        count = settings.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    return app


def _inert(value: Any) -> Any:
    """Every text that a template prints, before it is escaped: nothing hidden, nothing that UTF-8 cannot write."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, keep=_JOINERS)
    return value


def _say(interface: Mapping[str, str], key: str, **values: Any) -> Markup:
    """Words of the interface, escaped, with their places filled in; only what is `Markup` stays as it is."""
    safe = {name: escape(_inert(value)) for name, value in values.items()}
    return Markup(filled(str(escape(_inert(word(interface, key)))), **safe))


def _paragraphs(text: str) -> list[str]:
    """Parts with an empty line between them."""
    tidy = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return [part.strip("\n") for part in tidy.split("\n\n") if part.strip()]
