"""A study of perception for a terminal: the usual thresholds, and how well each metric tells the two looks apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charpy.analysis.document import Share
from charpy.analysis.perception.document import GroupPart, Perception, ThresholdPart
from charpy.reports.figures import NOTHING, interval, number, percent
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.table import Table

HEAD = ("metric", "condition", "alike, left out", "95 %", "different, let in", "95 %")


def perception_tables(document: Perception) -> Iterator[Table]:
    """`rich` tables; names are text, never markup."""
    judge = "people's answers" if document.labels == "answers" else "the proxy"
    usual = [(part.kind, at) for part in document.metrics for at in part.thresholds if at.role == "usual"]
    if usual:
        rows = [[kind, *_row(at)] for kind, at in usual]
        title = f"Thresholds of prior work, by {judge} (0 % left out: necessary; 0 % let in: sufficient)"
        yield _table(title, HEAD, rows)
    best = [(part, at) for part in document.metrics if part.area for at in part.thresholds if at.role == "best"]
    best.sort(key=lambda item: -item[0].area.value if item[0].area else 0)
    if best:
        rows = [
            [part.kind, *_row(at), number(part.area.value, 3), f"{part.area.low:.3f} to {part.area.high:.3f}"]
            for part, at in best
            if part.area
        ]
        title = f"The best threshold on these pairs, by {judge} (0.5 is a coin)"
        yield _table(title, (*HEAD, "area under ROC", "95 %"), rows)
    else:
        rows = [[part.name, str(part.pairs), *_medians(part)] for part in document.groups]
        yield _table("Medians", ("group", "pairs", *document.groups[0].values), rows)


def _medians(part: GroupPart) -> list[str]:
    return [NOTHING if spread.median is None else f"{spread.median:.4g}" for spread in part.values.values()]


def _row(at: ThresholdPart) -> list[str]:
    return [at.title, *_share(at.left_out), *_share(at.let_in)]


def _share(share: Share) -> tuple[str, str]:
    bounds = None if share.low is None or share.high is None else (share.low, share.high)
    return percent(share.value), interval(bounds) if bounds else NOTHING


def _table(title: str, head: tuple[str, ...], rows: list[list[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if place > 1 else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell, keep="\u00a0\u202f")) for cell in row))
    return table
