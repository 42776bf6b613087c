"""Cells of CSV that a spreadsheet cannot be made to run."""

from __future__ import annotations

from charpy.reports.inert import visible

_ACTIVE = frozenset("=+-@'\uff1d\uff0b\uff0d\uff20")
"""What makes a spreadsheet take a text for a formula, in full width too; the apostrophe, so that it can be undone."""

_QUOTED = frozenset("\"',;|")


def cell(value: str | int | float | bool | None) -> str:
    """One cell: a number as it is, a text that no spreadsheet takes for a formula, an empty cell for None.

    Hidden characters of a text, line ends and tabs too, become visible as `[U+000A]`; before a text that begins with
    one of = + - @ or an apostrophe stands an apostrophe, which a reader takes off again.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    text = visible(value)
    if text.lstrip()[:1] in _ACTIVE and text.strip():
        text = "'" + text
    if _QUOTED.isdisjoint(text) and text == text.strip():
        return text
    return '"' + text.replace('"', '""') + '"'
