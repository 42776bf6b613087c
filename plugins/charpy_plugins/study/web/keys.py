"""Which key chooses which label: digits for up to ten of them; of more, the first letters are typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_DIGITS = "1234567890"
_LETTERS = "qwert"


class Keys(NamedTuple):
    """Keys of the labels ('' where letters are typed) and of the steps of confidence, in order."""

    labels: tuple[str, ...]
    confidence: tuple[str, ...]


def keys(labels: Sequence[str]) -> Keys:
    """A label that is a digit has that digit as its key, where all labels are digits."""
    if len(labels) > len(_DIGITS):
        return Keys(("",) * len(labels), tuple(_DIGITS[: len(_LETTERS)]))
    own = all(len(label) == 1 and label in _DIGITS for label in labels)
    return Keys(tuple(labels) if own else tuple(_DIGITS[: len(labels)]), tuple(_LETTERS))
