"""The tables of a comparison for a terminal: those that answer who withstands more, and which attack breaks more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charpy.analysis.comparison.document import Comparison
from charpy.reports.compare_tables import Table as View
from charpy.reports.compare_view import section_views
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("dual", "duels", "areas")


def comparison_tables(document: Comparison) -> Iterator[Table]:
    """`rich` tables of the sections in `SHOWN`; names are text, never markup, and bold is written as `*`."""
    for section in section_views(document):
        if section.name in SHOWN:
            yield from (_table(section.title, view) for view in section.tables if not view.long)


def _table(title: str, view: View) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{title}: {visible(view.caption)}"), title_justify="left")
    for place, name in enumerate(view.head):
        table.add_column(Text(visible(name)), justify="right" if place else "left")
    for row in view.rows:
        texts = []
        for cell in row:
            lines = [f"{cell.text}{' *' if cell.bold else ''}", cell.small]
            texts.append(Text(visible("\n".join(filter(None, lines)), keep="\n\u00a0\u202f")))
        table.add_row(*texts)
    return table
