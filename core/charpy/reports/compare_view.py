"""What every format shows of a comparison: sections of sentences and tables, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from charpy.analysis.comparison.document import AttackCellPart, CellPart, Comparison, EntryPart, Rate
from charpy.analysis.comparison.duels import SIGNIFICANT
from charpy.reports import norms
from charpy.reports.compare_tables import Cell, Table, agreement_table, class_tables, curve_table, transfer_table
from charpy.reports.figures import NOTHING, interval, number, percent

MODELS_ABREAST = 6
"""Columns of models in one table: more would be cut by the page."""

Name = Literal["dual", "duels", "attacks", "areas", "classes", "transfer", "agreement", "curves"]


@dataclass(frozen=True)
class SectionView:
    """One section; `missing` says why there is nothing in it, and what would fill it."""

    name: Name
    title: str
    text: str
    tables: tuple[Table, ...]
    missing: str = ""


TITLES: dict[Name, tuple[str, str]] = {
    "dual": (
        "Adversarial accuracy of every model",
        "Lower is better for the model. In bold: the lowest of a column among models without defences, and those "
        "within five points of it; of several rows about one model, only the one that breaks most. Intervals are 95 % "
        "(Wilson).",
    ),
    "duels": (
        "Attack against attack",
        "Two attacks on the same images of the same model, each on its own. Only images that one breaks and the other "
        f"does not can tell them apart: p is the exact two-sided McNemar test, significant below {SIGNIFICANT}, and "
        "not corrected for the number of lines.",
    ),
    "attacks": (
        "Every attack on its own",
        "Share of the images that it broke, and in brackets the mean L2 on the 0..255 scale of its nearest witnesses. "
        "In grey: a later attack of a battery, asked only about what those before it had left standing.",
    ),
    "areas": (
        "Area under the curve",
        "Trapezoids of the number of correctly classified images not yet broken over every th, in images times th; "
        "larger is more robust. In brackets: as a share of the largest possible, which can be compared between models.",
    ),
    "classes": ("Which classes break", "Adversarial accuracy by true class, at the smallest and the largest level."),
    "transfer": (
        "Whose witnesses fool whom",
        "Each row's nearest witness of every broken image, shown to every model: the share that it misclassifies, of "
        "those whose unchanged image it gets right.",
    ),
    "agreement": (
        "Do L0 and Linf break the same images?",
        "Images that only one norm breaks would be missed by an assessment in the other norm alone.",
    ),
    "curves": (
        "Adversarial accuracy over th",
        "Where every sample's smallest level was searched, every th is known; elsewhere the assessed levels are joined "
        "by straight lines.",
    ),
}


def section_views(document: Comparison) -> tuple[SectionView, ...]:
    """The sections in the order of the paper."""
    missing = {part.section: part.sentence for part in document.missing}
    makers: dict[Name, Callable[[Comparison], Iterator[Table]]] = {
        "dual": _dual,
        "duels": _duels,
        "attacks": _attacks,
        "areas": _areas,
        "classes": class_tables,
        "transfer": transfer_table,
        "agreement": agreement_table,
        "curves": curve_table,
    }
    return tuple(
        SectionView(name, *TITLES[name], () if name in missing else tuple(make(document)), missing.get(name, ""))
        for name, make in makers.items()
    )


def norms_of(document: Comparison) -> list[str]:
    """The norms of the comparison, in the order of the runs."""
    return list(dict.fromkeys(cell.norm for cell in document.dual))


def shown(rate: Rate) -> Cell:
    """A share with its interval."""
    bounds = None if rate.low is None or rate.high is None else (rate.low, rate.high)
    return Cell(percent(rate.value), interval(bounds) if bounds else "")


def _dual(document: Comparison) -> Iterator[Table]:
    for norm in norms_of(document):
        cells = {(cell.entry, cell.th): cell for cell in document.dual if cell.norm == norm}
        levels = sorted({th for _, th in cells})
        rows = tuple(
            (
                Cell(entry.title, " + ".join(entry.defenses)),
                Cell(entry.status, "" if entry.finished else "unfinished"),
                shown(entry.clean),
                *(_dual_cell(cells.get((entry.title, th))) for th in levels),
            )
            for entry in document.entries
            if any(title == entry.title for title, _ in cells)
        )
        head = ("Model", "Status", "Clean accuracy", *(f"th = {norms.level(th)}" for th in levels))
        yield Table(norms.name(norm), head, rows, norm=norm)
    if any(entry.marks for entry in document.entries):
        counts = tuple((Cell(entry.title), Cell(str(entry.marks))) for entry in document.entries if not entry.defenses)
        yield Table("Figures in bold, of all norms and levels", ("Model", "in bold"), counts)


def _dual_cell(cell: CellPart | None) -> Cell:
    if cell is None:
        return Cell(NOTHING)
    share = shown(cell.broken)
    notes = [share.small] if share.small else []
    if cell.broken.total and cell.broken.value is None:
        notes.append(f"{cell.broken.count} broken so far")
    if cell.proven is not None and cell.proven.value is not None:
        notes.append(f"proven {percent(cell.proven.value)}")
    if cell.grade != "supported":
        notes.append("weak evidence" if cell.grade == "weak" else "invalid")
    return Cell(share.text, "\n".join(notes), bold=cell.mark != "")


def _duels(document: Comparison) -> Iterator[Table]:
    for norm in norms_of(document):
        duels = [duel for duel in document.duels if duel.norm == norm]
        if not duels:
            continue
        head = ("Model", "th", "first attack", "second attack", "images", "first breaks", "second breaks")
        rows = tuple(
            (
                Cell(duel.model),
                Cell(norms.level(duel.th)),
                Cell(duel.first, bold=duel.winner == duel.first),
                Cell(duel.second, bold=duel.winner == duel.second),
                Cell(str(duel.samples)),
                Cell(percent(duel.first_rate.value), f"{duel.only_first} alone"),
                Cell(percent(duel.second_rate.value), f"{duel.only_second} alone"),
                Cell(_p(duel.p_value), "significant" if duel.p_value < SIGNIFICANT else ""),
            )
            for duel in duels
        )
        yield Table(
            f"{norms.name(norm)}; the one that breaks more is in bold", (*head, "p"), rows, norm=norm, long=True
        )
        wins = tuple(
            (Cell(part.attack), Cell(str(part.wins)), Cell(str(part.significant)), Cell(str(part.duels)))
            for part in document.wins
            if part.norm == norm
        )
        yield Table(f"{norms.name(norm)}: wins", ("Attack", "wins", "significant", "of comparisons"), wins, norm=norm)


def _attacks(document: Comparison) -> Iterator[Table]:
    for norm in norms_of(document):
        cells, entries = _by_model([cell for cell in document.attacks if cell.norm == norm], document.entries)
        lines = [(attack, th) for attack, th in dict.fromkeys(key[:2] for key in cells)]
        if not lines:
            continue
        order = list(dict.fromkeys(attack for attack, _ in lines))
        lines.sort(key=lambda line: (order.index(line[0]), line[1]))
        for start in range(0, len(entries), MODELS_ABREAST):
            yield _attack_table(norm, lines, entries[start : start + MODELS_ABREAST], cells)


def _attack_table(
    norm: str,
    lines: Sequence[tuple[str, int]],
    entries: Sequence[str],
    cells: Mapping[tuple[str, int, str], AttackCellPart],
) -> Table:
    rows = []
    for attack, th in lines:
        row = [Cell(attack), Cell(norms.level(th))]
        for entry in entries:
            if (cell := cells.get((attack, th, entry))) is None:
                row.append(Cell(NOTHING))
                continue
            text = percent(cell.success.value)
            if cell.mean_l2 is not None:
                text += f" ({number(cell.mean_l2, 1)})"
            left = "" if cell.complete else " left over"
            of = f"{cell.success.count} of {cell.success.total}{left}"
            row.append(Cell(text, of, muted=not cell.complete))
        rows.append(tuple(row))
    return Table(norms.name(norm), ("Attack", "th", *entries), tuple(rows), norm=norm)


def _by_model(
    found: Sequence[AttackCellPart], entries: Sequence[EntryPart]
) -> tuple[dict[tuple[str, int, str], AttackCellPart], list[str]]:
    """(attack, th, column) -> cell, and the columns: models; or rows, where one attack met a model in two of them."""
    models = {entry.title: entry.model for entry in entries}
    for column in (models, {title: title for title in models}):
        cells = {(cell.attack, cell.th, column[cell.entry]): cell for cell in found}
        if len(cells) == len(found):
            break
    return cells, [name for name in dict.fromkeys(column.values()) if any(name == key[2] for key in cells)]


def _areas(document: Comparison) -> Iterator[Table]:
    found = {(part.entry, part.norm): part for part in document.areas}
    known = list(dict.fromkeys(part.norm for part in document.areas))
    rows = []
    for entry in dict.fromkeys(part.entry for part in document.areas):
        row = [Cell(entry)]
        for norm in known:
            part = found.get((entry, norm))
            if part is None:
                row.append(Cell(NOTHING))
                continue
            span = f"{part.samples} images, th = {part.first} to {part.last}"
            row.append(Cell(f"{number(part.value, 1)} ({percent(part.normalised)})", span))
        rows.append(tuple(row))
    yield Table("Over every level", ("Model", *(norms.short(norm) for norm in known)), tuple(rows))


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}".rstrip("0").rstrip(".")


def legend(document: Comparison, norm: str) -> Sequence[str]:
    """The rows that have a curve under `norm`, in the order of their colours."""
    return [curve.entry for curve in document.curves if curve.norm == norm]
