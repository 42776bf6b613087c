"""Tables as CSV that a spreadsheet cannot be made to run, each column with its line in the code book."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from charpy.reports.cells import cell
from charpy.reports.inert import visible

Value = str | int | float | bool | None
Kind = Literal["text", "whole", "number", "yes or no"]
Row = TypeVar("Row")


class Column(NamedTuple, Generic[Row]):
    """A column: how its cells come about, and what the code book says of it."""

    name: str
    value: Callable[[Row], Value]
    meaning: str
    unit: str = ""
    range: str = ""
    missing: str = "never"
    kind: Kind = "text"
    """Of its values, for formats that have types."""


class Table(NamedTuple, Generic[Row]):
    """A file with a row for each of `rows`."""

    name: str
    about: str
    columns: Sequence[Column[Row]]
    rows: Iterable[Row]

    def csv(self) -> bytes:
        """UTF-8, lines end in LF; the same rows give the same bytes."""
        return b"".join(self.csv_lines())

    def csv_lines(self) -> Iterator[bytes]:
        """The same, line by line: the head, and one for each row as it comes."""
        yield _line(cell(column.name) for column in self.columns)
        for row in self.rows:
            yield _line(cell(column.value(row)) for column in self.columns)


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(cells) + "\n").encode("utf-8", errors="backslashreplace")


def moment(seconds: float | None) -> str | None:
    """ISO 8601, UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def code_book(head: Iterable[str], tables: Iterable[Table[Any]]) -> bytes:
    """Markdown: what every column of every file means."""
    lines = list(head)
    for table in tables:
        lines += ["", f"## {table.name}", "", table.about, ""]
        lines += ["| column | meaning | unit | range | empty |", "|---|---|---|---|---|"]
        for column in table.columns:
            cells = (f"`{column.name}`", column.meaning, column.unit or "-", column.range or "-", column.missing)
            lines.append("| " + " | ".join(_markdown(text) for text in cells) + " |")
    return ("\n".join(lines) + "\n").encode("utf-8", errors="backslashreplace")


def _markdown(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
