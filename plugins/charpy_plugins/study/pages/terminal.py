"""An analysis for a terminal: its conditions and its comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charpy.reports.figures import interval, number, percent
from charpy.reports.inert import visible
from charpy_plugins.study.analysis.document import StudyAnalysis
from charpy_plugins.study.pages.figures import estimate_text, figure_text, p_value, significance, unit_of

if TYPE_CHECKING:
    from rich.table import Table


def analysis_tables(analysis: StudyAnalysis) -> Iterator[Table]:
    """`rich` tables; names are text, never markup. SIMULATED stands in the title of each where nobody answered."""
    mark = "SIMULATED: " if analysis.simulated else ""
    yield _table(
        f"{mark}included participants, with 95 % intervals",
        ("condition", "joined", "included", "accuracy", "95 %", "majority vote", "95 %", "confidence", "95 %"),
        [_condition(analysis, place) for place in range(len(analysis.conditions))],
    )
    for measure in dict.fromkeys(part.measure for part in analysis.comparisons):
        rows = [
            [
                f"{part.second} - {part.first}",
                *estimate_text(part.primary, measure),
                p_value(part.paper.p),
                p_value(part.primary.p),
                p_value(part.primary.p_holm),
                significance(part.primary),
            ]
            for part in analysis.comparisons
            if part.measure == measure
        ]
        head = ("comparison", "difference", "95 %", "paper's t test, p", "primary, p", "p after Holm", "the mean")
        yield _table(f"{mark}{measure}, {unit_of(measure)}", head, rows)


def _condition(analysis: StudyAnalysis, place: int) -> list[str]:
    part, flow = analysis.conditions[place], analysis.flow[place]
    share = part.majority.share
    bounds = None if share.low is None or share.high is None else (share.low, share.high)
    return [
        part.name,
        number(flow.joined),
        number(flow.included),
        *figure_text(part.accuracy, "accuracy"),
        percent(share.value),
        interval(bounds),
        *figure_text(part.confidence, "confidence"),
    ]


def _table(title: str, head: tuple[str, ...], rows: list[list[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if place else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell, keep="\u00a0\u202f")) for cell in row))
    return table
