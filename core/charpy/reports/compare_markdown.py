"""A comparison as Markdown, to be pasted into a page or a review."""

from __future__ import annotations

import re
from collections.abc import Iterator

from charpy.analysis.comparison.document import Comparison
from charpy.reports.compare_tables import Cell, Table
from charpy.reports.compare_view import section_views
from charpy.reports.inert import visible

_ACTIVE = re.compile(r"([\\`*_\[\]<>|#!~&])")
"""Characters that mean something in Markdown or HTML."""


def render_markdown(document: Comparison) -> bytes:
    """UTF-8 Markdown (with pipe tables); no name in it is read as markup."""
    return ("\n".join(_lines(document)) + "\n").encode("utf-8", errors="backslashreplace")


def plain(text: str) -> str:
    """`text` on one line, as text: hidden characters visible, everything active escaped."""
    return _ACTIVE.sub(r"\\\1", visible(text.replace("\u00a0", " ").replace("\u202f", " ")))


def _lines(document: Comparison) -> Iterator[str]:
    yield f"# {plain(document.name)}"
    yield ""
    yield f"{plain(document.dataset.name)}: {document.samples} images. {plain(document.definition)}"
    yield ""
    for note in (*document.notes, *document.warnings):
        yield f"- {plain(note)}"
    for section in section_views(document):
        yield ""
        yield f"## {section.title}"
        yield ""
        # A missing section quotes lines of a spec, which are ours.
        yield section.missing or plain(section.text)
        for table in section.tables:
            yield ""
            yield from _table(table)
    yield ""
    yield "## What was compared"
    yield ""
    for run in document.runs:
        yield f"- {plain(run.title)}: {plain(run.file)}, {run.samples} images, seed {run.seed}"


def _table(table: Table) -> Iterator[str]:
    yield f"{plain(table.caption)}:"
    yield ""
    yield "| " + " | ".join(map(plain, table.head)) + " |"
    yield "|" + "|".join(["---", *["---:"] * (len(table.head) - 1)]) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(cell: Cell) -> str:
    text = f"**{plain(cell.text)}**" if cell.bold else plain(cell.text)
    small = plain(cell.small.replace("\n", "; "))
    return f"{text} ({small})" if small else text
