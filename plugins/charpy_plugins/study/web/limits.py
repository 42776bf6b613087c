"""How often somebody may ask: a participant by their cookie, everybody else by address, which is never kept.

Addresses are hashed with a key that lives as long as the process, in memory only. The limits leave room for a lecture
hall: 200 people behind one address, who open the study, agree and answer at the same time.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from typing import Final

from flask import Flask, current_app, request, session
from flask_limiter import Limiter, RequestLimit
from sqlalchemy.exc import SQLAlchemyError

from charpy_plugins.study.store.codes import digest
from charpy_plugins.study.web.served import served

EVERYTHING: Final = "3000 per minute"
"""Of one participant or address and one kind of page; a question is one page and three images."""

BY_ADDRESS: Final = {
    "participant.join": "600 per minute",
    "participant.decline": "600 per minute",
    "participant.withdraw": "60 per minute",
    "operator.enter": "5 per minute; 30 per hour",
}

BY_PARTICIPANT: Final = {"participant.answer": "40 per 10 seconds; 120 per minute"}

_QUIET = 1.0
"""Seconds between two events that say that somebody asks too often: noting must not be the next flood."""


def _network(address: str) -> str:
    """What one subscriber has: an IPv4 address, or the 64 bits that begin all IPv6 addresses of a line."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


def limit(app: Flask) -> Limiter:
    """Put the limits around an app, before whatever else looks at a request: who asks too often gets status 429."""
    key = secrets.token_bytes(32)
    quiet_until = 0.0

    def address() -> str:
        return hmac.digest(key, _network(request.remote_addr or "").encode(), "sha256").hex()

    def who() -> str:
        token = session.get("participant")  # of a signed cookie: nobody makes up as many as they like
        if not isinstance(token, str) or request.endpoint in BY_ADDRESS:
            return address()
        return f"participant {digest(token)}"

    def often() -> str:
        endpoint = request.endpoint or ""
        return BY_ADDRESS.get(endpoint) or BY_PARTICIPANT.get(endpoint) or EVERYTHING

    def breached(limit: RequestLimit) -> None:
        nonlocal quiet_until
        now = time.monotonic()
        if now < quiet_until:
            return
        quiet_until = now + _QUIET
        try:
            served().store.note("rate", request.endpoint or "", refused=True)
        except SQLAlchemyError as cause:
            current_app.logger.error("a refusal could not be noted: %s", type(cause).__name__)

    return Limiter(
        who,
        app=app,
        default_limits=[often],
        storage_uri="memory://",
        strategy="fixed-window",
        on_breach=breached,
    )
