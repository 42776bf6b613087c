"""Tables of a comparison that are the same in every format: cells of text, with what a page may add to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charpy.analysis.comparison.document import Comparison, Rate
from charpy.reports import norms
from charpy.reports.figures import NOTHING, percent

CLASSES_SHOWN = 30
"""A heat map of more classes than this shows only those that break most easily."""

CURVE_LEVELS = (1, 3, 5, 10, 30, 127)
"""Of a curve over every level, those that stand in its table, and the last."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, smaller lines below, and how a page may show it.

    Attributes:
        heat: a share in 0..1 that colours the cell.
        bars: (`only L0` | `both` | `only Linf` | `neither` as a class, share in 0..1) of a bar below the text.
    """

    text: str
    small: str = ""
    bold: bool = False
    muted: bool = False
    heat: float | None = None
    bars: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: the first column names the row; `norm` gives its colour, `heat` its style.

    `long`: a detail that a terminal leaves out.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    norm: str = ""
    heat: bool = False
    long: bool = False


def heat_cell(rate: Rate | None) -> Cell:
    """A share as a coloured cell with its counts."""
    if rate is None or rate.value is None:
        return Cell(NOTHING, "0 of 0")
    return Cell(percent(rate.value), f"{rate.count} of {rate.total}", heat=rate.value)


def class_tables(document: Comparison) -> Iterator[Table]:
    """Rows are models, columns classes, as in the paper's Figure 3."""
    columns = dict.fromkeys((part.norm, part.th) for part in document.classes)
    hits: dict[int, int] = {}
    names: dict[int, str] = {}
    for part in document.classes:
        hits[part.label] = hits.get(part.label, 0) + part.broken
        names[part.label] = part.name
    labels = sorted(sorted(names, key=lambda label: (-hits[label], label))[:CLASSES_SHOWN])
    hidden = f"; the {len(labels)} classes with the most broken images" if len(labels) < len(names) else ""
    for norm, th in columns:
        levels = [level for of_norm, level in columns if of_norm == norm]
        if th not in (min(levels), max(levels)):
            continue
        cells = {(part.entry, part.label): part for part in document.classes if (part.norm, part.th) == (norm, th)}
        rows = []
        for entry in dict.fromkeys(entry for entry, _ in cells):
            row = [Cell(entry)]
            for label in labels:
                part = cells[entry, label]
                share = part.adversarial_accuracy
                row.append(Cell(percent(share), f"{part.broken} of {part.samples}", heat=share))
            rows.append(tuple(row))
        head = ("Model", *(names[label] for label in labels))
        yield Table(f"{norms.short(norm)}, th = {norms.level(th)}{hidden}", head, tuple(rows), norm=norm, heat=True)


def transfer_table(document: Comparison) -> Iterator[Table]:
    """Rows are sources, columns targets, as in the paper's Figure 4."""
    targets = list(dict.fromkeys(part.target for part in document.transfer))
    for norm in dict.fromkeys(part.norm for part in document.transfer):
        cells = {(part.source, part.target): part.fooled for part in document.transfer if part.norm == norm}
        rows = tuple(
            (Cell(source), *(heat_cell(cells.get((source, target))) for target in targets))
            for source in dict.fromkeys(source for source, _ in cells)
        )
        yield Table(
            f"{norms.name(norm)}: source in rows, target in columns", ("Source", *targets), rows, norm, heat=True
        )


def agreement_table(document: Comparison) -> Iterator[Table]:
    """Counts of each row and level, with a bar of the four shares, as in the paper's Figure 5."""
    rows = []
    for part in document.agreement:
        counts = (part.only_l0, part.both, part.only_linf, part.neither)
        kinds = ("l0", "both", "linf", "neither")
        bars = tuple((kind, count / part.samples) for kind, count in zip(kinds, counts, strict=True) if count)
        numbers = (Cell(str(count)) for count in (*counts, part.samples))
        both = Cell(f"{percent((part.only_l0 + part.only_linf) / part.samples)}", bars=bars) if part.samples else None
        rows.append((Cell(part.entry), Cell(norms.level(part.th)), *numbers, both or Cell(NOTHING)))
    head = ("Model", "th", "only L0", "both", "only Linf", "neither", "images", "under one norm only")
    yield Table("Correctly classified images", head, tuple(rows))


def curve_table(document: Comparison) -> Iterator[Table]:
    """The curves at some levels, for formats without pictures and readers who do not see them."""
    for norm in dict.fromkeys(curve.norm for curve in document.curves):
        curves = [curve for curve in document.curves if curve.norm == norm]
        levels = _levels([[point.th for point in curve.points] for curve in curves])
        rows = []
        for curve in curves:
            at = {point.th: point.broken for point in curve.points}
            rows.append((Cell(curve.entry), *(Cell(percent(at[th].value) if th in at else NOTHING) for th in levels)))
        yield Table(norms.name(norm), ("Model", *(f"th = {th}" for th in levels)), tuple(rows), norm=norm)


def _levels(curves: Sequence[Sequence[int]]) -> list[int]:
    """Every level of the short curves, and some of those that run over all of them."""
    chosen: set[int] = set()
    for levels in curves:
        few = len(levels) <= len(CURVE_LEVELS) * 2
        chosen |= set(levels) if few else {th for th in levels if th in CURVE_LEVELS} | {levels[-1]}
    return sorted(chosen)
