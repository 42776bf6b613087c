"""What of a document must be the same in a second run with the same seed."""

from __future__ import annotations

from typing import Any

TIMES = frozenset({"seconds", "overhead", "environment", "micro_batch", "engine", "gradient_engine", "engine_notes"})
"""Fields that a second run with the same seed may change: times, and what was measured on the machine."""


def comparable(document: Any) -> Any:
    """`document` (parsed JSON) without the fields that a second run with the same seed may change."""
    if isinstance(document, dict):
        return {key: comparable(value) for key, value in document.items() if key not in TIMES}
    if isinstance(document, list):
        return [comparable(value) for value in document]
    return document
