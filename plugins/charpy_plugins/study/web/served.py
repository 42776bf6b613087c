"""What every page needs: the study, its answers, and how it is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flask import current_app

from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import Study
from charpy_plugins.study.web.settings import Settings
from charpy_plugins.study.words import translated, word

KEY = "charpy_study"


class Served(NamedTuple):
    """One study before its participants; `lengths` of the PNG files as they are sent, by size."""

    study: Study
    store: Store
    settings: Settings
    lengths: Mapping[int, int]


def served() -> Served:
    """Of the app that answers this request."""
    found: Served = current_app.extensions[KEY]
    return found


def said(key: str) -> str:
    """Words of the interface, see `words`."""
    return word(served().study.document.texts.interface, key)


def refusal(text: str) -> str:
    """What a refusal says, in the words of the study."""
    return translated(served().study.document.texts.interface, text)
