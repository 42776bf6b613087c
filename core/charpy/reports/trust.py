"""What the HTML page says of the evidence behind each figure: grades, indicators and planted examples, laid out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from charpy.analysis.document import Assessment, DrillPart, IndicatorKind, IndicatorPart
from charpy.reports import norms
from charpy.reports.figures import NO_BREAK, NOTHING, number, percent
from charpy.threat import Norm

TITLES: dict[IndicatorKind, str] = {
    "zero_gradients": "Gradients that are zero",
    "loss_still_rising": "Loss still rising at the end",
    "more_still_helps": "More steps still help",
    "black_box_better": "Black box beats white box",
    "transfer_better": "Transfer beats direct attack",
    "planted": "Planted examples found",
    "planted_battery": "Planted examples found, best attack",
    "unbounded_fails": "Broken without any bound",
    "randomised": "Randomised model",
    "batch_dependent": "Batch-dependent model",
    "stateful": "Model with a memory",
}

_MEANINGS: dict[IndicatorKind, str] = {
    "zero_gradients": "share of the gradients of what held",
    "loss_still_rising": "pace of the margin's fall in the last rows, 1 = its average",
    "more_still_helps": "share of the correct images that fell in the last quarter of the rows",
    "black_box_better": "images that gradient attacks had left standing",
    "transfer_better": "images that direct attacks had left standing",
    "planted": "share of the images where one is there for certain",
    "planted_battery": "by the attack that found most",
    "unbounded_fails": "share of images; any change is allowed",
    "randomised": "other answers to the same images",
    "batch_dependent": "answers depend on the other images",
    "stateful": "other answers after the attacks than before",
}

_NAMES = {"supported": "supported", "weak": "weak evidence", "invalid": "invalid"}
_SHARES = frozenset({"zero_gradients", "more_still_helps", "planted", "planted_battery", "unbounded_fails"})
_AT_LEAST = frozenset({"planted", "planted_battery", "unbounded_fails"})
_YES_NO = frozenset({"randomised", "batch_dependent", "stateful"})


@dataclass(frozen=True)
class Cell:
    """One value: its text, whether its indicator fired, how many levels it is about, and the finding in words."""

    text: str
    fired: bool
    span: int
    finding: str


@dataclass(frozen=True)
class Check:
    """One indicator of one attack, at every level."""

    attack: str
    limit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Trust:
    """The evidence under one norm.

    Attributes:
        heads: the heading of each level.
        grades: `(levels, grade, its name, reasons)`.
        checks: per indicator `(title, what its value is, its rows)`.
        fired: `(which, the attack and the levels, advice)`, one for all levels.
    """

    norm: str
    title: str
    heads: tuple[str, ...]
    grades: tuple[tuple[str, str, str, tuple[str, ...]], ...]
    checks: tuple[tuple[str, str, tuple[Check, ...]], ...]
    fired: tuple[tuple[str, str, str], ...]


def grade_name(grade: str) -> str:
    """How a grade stands beside a figure."""
    return _NAMES[grade]


def trust(assessment: Assessment) -> tuple[Trust, ...]:
    """One part per norm; indicators of the model, which are the same for all, stand in each."""
    return tuple(_trust(assessment, norm) for norm in dict.fromkeys(threat.norm for threat in assessment.threats))


def _trust(assessment: Assessment, norm: str) -> Trust:
    threats = [threat for threat in assessment.threats if threat.norm == norm]
    levels = tuple(threat.th for threat in threats)
    about = [part for part in assessment.indicators if part.norm in (norm, None)]
    drills: dict[int | None, DrillPart] = {drill.step: drill for drill in assessment.drills if drill.norm == norm}
    rows: dict[IndicatorKind, dict[int | None, list[IndicatorPart]]] = {}
    for part in about:
        rows.setdefault(part.kind, {}).setdefault(part.step, []).append(part)
    grades: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for threat in threats:
        grades.setdefault((threat.grade, threat.grade_reasons), []).append(threat.th)
    return Trust(
        norm=norm,
        title=norms.name(norm),
        heads=tuple(_levels(norm, [th]).replace(" ", NO_BREAK) for th in levels),
        grades=tuple((_levels(norm, of), grade, _NAMES[grade], reasons) for (grade, reasons), of in grades.items()),
        checks=tuple(
            (title, _MEANINGS[kind], tuple(_check(parts, levels, drills) for parts in rows[kind].values()))
            for kind, title in TITLES.items()
            if kind in rows
        ),
        fired=tuple(_fired([part for part in about if part.fired])),
    )


def _check(parts: Sequence[IndicatorPart], levels: Sequence[int], drills: Mapping[int | None, DrillPart]) -> Check:
    first = parts[0]
    if first.th is None:
        cells = [_cell(first, len(levels), drills)]
    else:
        at = {part.th: part for part in parts}
        cells = [_cell(at[th], 1, drills) if th in at else Cell(NOTHING, False, 1, "it did not run") for th in levels]
    return Check(first.attack or "", _limit(first), tuple(cells))


def _cell(part: IndicatorPart, span: int, drills: Mapping[int | None, DrillPart]) -> Cell:
    text = NOTHING if part.value is None else _figure(part.kind, part.value)
    if part.kind == "planted" and part.step in drills and part.value is not None:
        drill = drills[part.step]
        text = f"{drill.found} of {drill.planted} ({text})"
    return Cell(text, part.fired, span, part.finding)


def _figure(kind: IndicatorKind, value: float) -> str:
    if kind in _YES_NO:
        return "yes" if value else "no"
    return percent(value) if kind in _SHARES else f"{value:.2f}" if kind == "loss_still_rising" else number(value)


def _limit(part: IndicatorPart) -> str:
    if part.kind in _YES_NO:
        return "no"
    sign = "\u2265" if part.kind in _AT_LEAST else "\u2264"
    figure = percent(round(part.limit, 3)) if part.kind in _SHARES else number(part.limit, 2)
    return f"{sign}{NO_BREAK}{figure}"


def _fired(parts: Sequence[IndicatorPart]) -> list[tuple[str, str, str]]:
    groups: dict[tuple[IndicatorKind, int | None], list[IndicatorPart]] = {}
    for part in parts:
        groups.setdefault((part.kind, part.step), []).append(part)
    rows = []
    for (kind, _), same in groups.items():
        levels = [part.th for part in same if part.th is not None]
        where = [same[0].attack or "", _levels(same[0].norm, levels) if levels else ""]
        rows.append((TITLES[kind], ", ".join(filter(None, where)), same[0].advice))
    return rows


def _levels(norm: str | None, levels: Iterable[int]) -> str:
    if norm == Norm.UNRESTRICTED:
        return norms.UNITS[Norm.UNRESTRICTED]
    return f"th = {', '.join(map(norms.level, levels))}"
