"""The outcome of one sample under one threat."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How it ended. `INVALID` (NaN, refused, crashed) is never robust and never broken."""

    CLEAN_ERROR = "clean_error"
    BROKEN = "broken"
    HELD = "held"
    PROVEN = "proven"
    INVALID = "invalid"
