"""The distances of a dataset for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charpy.analysis.distances.document import Distances, EpsSummary, MetricPart
from charpy.reports.distances_view import MOST_CLASSES, figure, heat_rows, rule_sentence, subject
from charpy.reports.figures import number
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.table import Table


def distance_tables(document: Distances) -> Iterator[Table]:
    """One table of mean values a metric, with its marks, and the one of the levels."""
    for part in document.metrics:
        yield _metric_table(document, part)
    if document.eps is not None:
        yield _eps_table(document.eps)


def _metric_table(document: Distances, part: MetricPart) -> Table:
    from rich.table import Table
    from rich.text import Text

    names = [entry.name for entry in document.classes]
    wide = len(names) > MOST_CLASSES
    caption = "* nearer to that class than to itself; nearest: median over the images, nearest of another class"
    table = Table(
        title=Text(f"mean {part.kind} ({part.unit}, {part.direction}); {visible(subject(document))}"),
        caption=Text(caption),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("class")
    for name in ["within"] if wide else names:
        table.add_column(Text(visible(name)), justify="right")
    table.add_column("nearest", justify="right")
    for row, nearest in zip(heat_rows(part, names), part.nearest_by_class, strict=True):
        cells = [cell for cell in row.cells if cell.within or not wide]
        texts = [Text(cell.text + ("*" if cell.marked else "")) for cell in cells]
        table.add_row(Text(visible(row.name)), *texts, figure(nearest.median))
    return table


def _eps_table(eps: EpsSummary) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"levels, {rule_sentence(eps)}"), title_justify="left")
    table.add_column("class")
    for name in ("images", "smallest", "quartile", "median", "quartile", "largest"):
        table.add_column(name, justify="right")
    for name, part in [*eps.classes.items(), ("all", eps.all)]:
        values = (part.samples, part.th, part.q1, part.median, part.q3, part.most)
        table.add_row(Text(visible(name)), *(number(value, 2) for value in values))
    return table
