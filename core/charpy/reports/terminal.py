"""The table of a run for a terminal: L0 and Linf side by side, one row a level; with other norms one below another."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from charpy.analysis.document import Assessment, AttackersPart, Grade, ThreatPart
from charpy.analysis.verdict import percent
from charpy.reports.characteristic_chart import image_values
from charpy.reports.inert import visible
from charpy.reports.norms import UNITS, level, short
from charpy.threat import BALLS, DUAL, Norm

if TYPE_CHECKING:
    from rich.table import Table


MARKS: dict[Grade, str] = {"supported": "", "weak": " ?", "invalid": " !"}
"""After a figure, by its grade."""


def dual_table(assessment: Assessment) -> Table:
    """A `rich` table: per level and norm the broken of the correctly classified, the adversarial accuracy with its
    95 % interval, and the bracket of the robust accuracy, marked where the indicators grade it below `supported`; why
    stands below the table.

    L0 and Linf have the same levels and stand side by side. A run under other norms, whose levels differ, has one row
    a norm and level. Columns of invalid samples stand only where there are any. Names are text, never markup.
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
    if set(norms) <= set(DUAL):
        _side_by_side(table, assessment, norms, invalid)
    else:
        _one_below_another(table, assessment, norms, invalid)
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


def _side_by_side(table: Table, assessment: Assessment, norms: Sequence[str], invalid: bool) -> None:
    table.add_column("th", justify="right")
    for norm in norms:
        _add_columns(table, _title(norm), invalid)
    cells = {(threat.norm, threat.th): threat for threat in assessment.threats}
    for th in sorted({threat.th for threat in assessment.threats}):
        table.add_row(level(th), *(cell for norm in norms for cell in _cells(cells.get((norm, th)), invalid)))


def _one_below_another(table: Table, assessment: Assessment, norms: Sequence[str], invalid: bool) -> None:
    table.add_column("norm")
    table.add_column("th", justify="right")
    _add_columns(table, "", invalid)
    for norm in norms:
        threats = [threat for threat in assessment.threats if threat.norm == norm]
        for threat in threats:
            title = _title(norm) if threat is threats[0] else ""
            allowed = level(threat.th) if norm in BALLS else ""
            table.add_row(title, allowed, *_cells(threat, invalid), end_section=threat is threats[-1])


def _title(norm: str) -> str:
    return f"{short(norm)} ({UNITS[Norm(norm)]})"


def _add_columns(table: Table, title: str, invalid: bool) -> None:
    from rich.text import Text

    for column in (f"{title}\nbroken", "adversarial\naccuracy", "robust\naccuracy", *["\ninvalid"] * invalid):
        table.add_column(Text(column), justify="right")


def _cells(threat: ThreatPart | None, invalid: bool) -> list[str]:
    if threat is None:
        return [""] * (4 if invalid else 3)
    correct = threat.broken + threat.held + threat.proven
    accuracy = "-"
    if threat.adversarial_interval is not None:
        low, high = threat.adversarial_interval
        accuracy = f"{percent(threat.adversarial_accuracy or 0.0)} [{100 * low:.0f}..{100 * high:.0f}]"
    robust = threat.robust_accuracy
    bracket = _bracket(robust.proven, robust.not_broken) + MARKS[threat.grade]
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
    return "\n".join([text, *_doubts(assessment), *_brackets(assessment), *_redraws(assessment)])


def _brackets(assessment: Assessment) -> list[str]:
    """Under each norm, the last level at which anything is proven, or the first: in words."""
    lines = []
    for part in assessment.brackets:
        threats = [threat for threat in assessment.threats if threat.norm == part.norm]
        some = [said for said, threat in zip(part.sentences, threats, strict=True) if threat.proven]
        lines += [f"{short(part.norm)}: {said}" for said in some or part.sentences[:1]]
    return lines


def _redraws(assessment: Assessment) -> list[str]:
    """Of a randomised model: what is right under other draws, a line a norm."""
    lines: dict[str, list[str]] = {}
    for part in assessment.redraws:
        low, high = part.interval
        at = f"th = {level(part.th)}: " if part.norm else ""
        title = short(part.norm) if part.norm else "unchanged"
        lines.setdefault(title, []).append(f"{at}{percent(part.mean)} [{percent(low)}, {percent(high)}]")
    draws = assessment.redraws[0].draws if lines else 0
    return [f"right under {draws} other draws, {title}: {'; '.join(of)}" for title, of in lines.items()]


def contest_table(assessment: Assessment) -> Table:
    """A `rich` table of the attacks of a contest: what each breaks alone, and its mean distortion (image values)."""
    from rich.table import Table
    from rich.text import Text

    caption = "each attack alone; distortion: mean over the images it broke, in image values (L0: pixels)"
    table = Table(title=Text("Attacks"), caption=Text(caption), title_justify="left", caption_justify="left")
    invalid = ("invalid",) if any(part.invalid for part in assessment.characteristics) else ()
    for name in ("attack", "threat", "broken", "success", "distance", "distortion", *invalid):
        table.add_column(Text(name), justify="left" if name in {"attack", "threat", "distance"} else "right")
    for part in assessment.characteristics:
        success = "-" if part.success.value is None else percent(part.success.value)
        mean = "-" if part.mean is None else f"{image_values(part.distance, part.mean):.3f}"
        counts = f"{part.success.count}/{part.success.total}"
        cells = (visible(part.name), short(part.norm), counts, success, short(part.distance), mean)
        table.add_row(*(Text(cell) for cell in (*cells, *([str(part.invalid)] if invalid else ()))))
    return table


def attackers_table(parts: Sequence[AttackersPart]) -> Table:
    """A `rich` table of defended models by what their attackers see: the share of all samples that is not broken."""
    from rich.table import Table
    from rich.text import Text

    seen = list(dict.fromkeys(name for part in parts for name in part.not_broken))
    caption = "robust accuracy (not broken, of all samples) by what attackers see; quote the lowest"
    table = Table(title=Text("Defended models"), caption=Text(caption), title_justify="left", caption_justify="left")
    for name in ("model", "norm", "th", *seen, "lowest"):
        table.add_column(Text(name), justify="left" if name in {"model", "norm"} else "right")
    for part in parts:
        cells = [part.not_broken[name].value if name in part.not_broken else None for name in seen]
        shares = ["-" if value is None else percent(value) for value in (*cells, part.lowest.value)]
        table.add_row(*(Text(cell) for cell in (visible(part.model), short(part.norm), level(part.th), *shares)))
    return table


def _doubts(assessment: Assessment) -> list[str]:
    """Which figures are weak evidence and why, the first reason; an invalid run has said its reason already."""
    doubted: dict[tuple[Grade, str], dict[str, list[str]]] = {}
    for threat in assessment.threats:
        if threat.grade == "supported" or assessment.status != "valid":
            continue
        first, *more = threat.grade_reasons
        why = visible(first) + (f"; and {len(more)} more in the report" if more else "")
        doubted.setdefault((threat.grade, why), {}).setdefault(threat.norm, []).append(level(threat.th))
    lines = []
    for (grade, why), where in doubted.items():
        figures = "; ".join(f"{short(norm)} th = {', '.join(levels)}" for norm, levels in where.items())
        lines.append(f"{MARKS[grade].strip()} {grade} evidence, {figures}: {why}")
    return lines
