"""How a study is served; nothing in it changes what a participant sees of the study."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Of one server.

    Attributes:
        secure: participants reach the pages by https: cookies are sent over nothing else.
        allowed_hosts: names that the Host header may have, without port; empty allows any.
        proxies: how many trusted reverse proxies stand before the server and set X-Forwarded headers.
        panel: only who comes with the ids of Prolific may take part.
        completion: where a participant of Prolific goes when done: an https address, or a completion code.
        screened_out: the same for who does not agree.
        full: the same for who comes when every condition is full.
        per_condition: a condition with so many participants is full; None is never full.
        operator_token: opens the operator's page; empty closes it.
        laboratory: one device for many participants: the last page has a button for the next one.
        limited: whether a participant or an address that asks too often is turned away, see `limits`.
    """

    secure: bool = False
    allowed_hosts: tuple[str, ...] = ()
    proxies: int = 0
    panel: bool = False
    completion: str = ""
    screened_out: str = ""
    full: str = ""
    per_condition: int | None = None
    operator_token: str = ""
    laboratory: bool = False
    limited: bool = False
