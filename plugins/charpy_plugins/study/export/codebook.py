"""codebook.md: what every column of every file means, with its unit, its range and what an empty cell says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from charpy.reports.inert import visible
from charpy.reports.table import Table, code_book
from charpy_plugins.study.document import StudyDocument

_HOW = """Files are UTF-8 with commas, a full stop in decimal fractions, and LF at the end of a line. An empty cell is a
missing value; the last column says when. Hidden characters of a text, line ends and tabs among them, are written as
`[U+000A]`. Before a text that begins with `=`, `+`, `-`, `@` or an apostrophe, also after spaces or in full width,
stands an apostrophe: a spreadsheet then shows it instead of running it. To get the text back, take one apostrophe off.
Numbers are never changed."""

_OTHERS = """## Other files

- `analysis.json`: every figure of the page; `charpy study analyse --schema` prints its JSON Schema.
- `responses.json`: all participants and answers in one file, which `charpy study analyse --answers` reads again.
- `originals/`, `changed/`: the PNGs, as shown at size 1, of the pairs of `human_labels.csv`, by the number of the true
  class."""


def codebook(document: StudyDocument, simulated: str, tables: Iterable[Table[Any]]) -> bytes:
    """UTF-8 Markdown; `simulated` as in `Responses`."""
    head = [f"# Code book of {_plain(document.name)}", ""]
    if simulated:
        head += [f"**SIMULATED: no person answered. {_plain(simulated)}**", ""]
    head += [f"Study {document.fingerprint}.", "", *_HOW.splitlines(), "", "Labels:", ""]
    head += [f"- {number}: {_plain(label)}" for number, label in enumerate(document.labels)]
    return code_book(head, tables) + ("\n" + _OTHERS + "\n").encode()


def _plain(text: str) -> str:
    return visible(text).replace("<", "&lt;")
