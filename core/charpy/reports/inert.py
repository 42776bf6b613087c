"""Names that come from elsewhere, made harmless: what is hidden in them becomes visible."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cs", "Cn"})
"""Unicode categories without a visible shape: controls (ANSI escapes), format and bidirectional marks, separators,
private use, surrogates, unassigned."""


def visible(text: str, *, keep: str = "") -> str:
    """`text` with every hidden character written as its code point, `[U+202E]`; characters of `keep` stay.

    Markup is not touched: escaping is the business of the format that the text goes into.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or unicodedata.category(char) not in _HIDDEN else f"[U+{ord(char):04X}]" for char in text
    )
