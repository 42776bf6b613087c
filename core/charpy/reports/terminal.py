"""The dual table for a terminal: L0 and Linf side by side, one row a level."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from charpy.analysis.document import Assessment, ThreatPart
from charpy.analysis.verdict import percent
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.table import Table

TITLES = {"l0": "L0 (pixels)", "linf": "Linf (1/255)"}


def dual_table(assessment: Assessment) -> Table:
    """A `rich` table: per level and norm the broken of the correctly classified, the adversarial accuracy with its
    95 % interval, and the bracket of the robust accuracy.

    Columns of invalid samples stand only where there are any. Names are text, never markup.
    """
    from rich.table import Table
    from rich.text import Text

    norms = list(dict.fromkeys(threat.norm for threat in assessment.threats))
    invalid = any(threat.invalid for threat in assessment.threats)
    clean = assessment.clean
    title = (
        f"{visible(assessment.model.name)} on {visible(assessment.dataset.name)}: "
        f"{clean.count} of {clean.total} correctly classified"
    )
    table = Table(title=Text(title), caption=Text(_caption(assessment)), title_justify="left", caption_justify="left")
    table.add_column("th", justify="right")
    for norm in norms:
        for column in _columns(norm, invalid):
            table.add_column(Text(column), justify="right")
    cells = {(threat.norm, threat.th): threat for threat in assessment.threats}
    for th in sorted({threat.th for threat in assessment.threats}):
        row = [str(th)]
        for norm in norms:
            row += _cells(cells.get((norm, th)), invalid)
        table.add_row(*row)
    return table


def plain_table(assessment: Assessment, width: int = 120) -> str:
    """The dual table as plain text in ASCII, for logs and files; at most `width` characters wide."""
    from rich import box
    from rich.console import Console

    table = dual_table(assessment)
    table.box = box.ASCII2
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())


def _columns(norm: str, invalid: bool) -> list[str]:
    columns = [f"{TITLES.get(norm, norm)}\nbroken", "adversarial\naccuracy", "robust\naccuracy"]
    return [*columns, "\ninvalid"] if invalid else columns


def _cells(threat: ThreatPart | None, invalid: bool) -> list[str]:
    if threat is None:
        return [""] * (4 if invalid else 3)
    correct = threat.broken + threat.held + threat.proven
    accuracy = "-"
    if threat.adversarial_interval is not None:
        low, high = threat.adversarial_interval
        accuracy = f"{percent(threat.adversarial_accuracy or 0.0)} [{100 * low:.0f}..{100 * high:.0f}]"
    robust = threat.robust_accuracy
    bracket = _bracket(robust.proven, robust.not_broken)
    cells = [f"{threat.broken}/{correct}", accuracy, bracket]
    return [*cells, str(threat.invalid)] if invalid else cells


def _bracket(proven: float | None, not_broken: float | None) -> str:
    if proven is None or not_broken is None:
        return "-"
    return f"{percent(proven).removesuffix(' %')}..{percent(not_broken)}"


def _caption(assessment: Assessment) -> str:
    """How to read it; and the status when it is not simply valid."""
    text = "robust accuracy: proven..not broken, of all samples; [95 % interval]"
    if assessment.status != "valid" or assessment.status_reason:
        text = f"{assessment.status.upper()}: {visible(assessment.status_reason)}\n{text}"
    return text
