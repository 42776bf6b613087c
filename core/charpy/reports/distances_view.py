"""What the page and the terminal say of the distances of a dataset, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from charpy.analysis.distances.document import CellPart, Distances, EpsSummary, MetricPart
from charpy.reports import norms
from charpy.reports.figures import number

MOST_CLASSES = 20
"""Of more classes a table has colours only, and the terminal shows none."""


class Heat(NamedTuple):
    """One cell of a heat map: 0 is the most alike of the map, 1 the least; None where nothing was measured."""

    text: str
    small: str
    title: str
    share: float | None
    within: bool
    marked: bool


class Row(NamedTuple):
    """The cells of one class."""

    name: str
    cells: list[Heat]


def heat_rows(part: MetricPart, classes: Sequence[str]) -> list[Row]:
    """The heat map of a metric: mean and standard deviation, coloured by how unlike the classes are."""
    means = [cell.mean for cell in part.cells if cell.mean is not None]
    low, high = min(means, default=0.0), max(means, default=0.0)
    marks = {(mark.name, mark.nearer_to) for mark in part.marks}
    size = len(classes)
    return [
        Row(name, [_heat(cell, part, low, high, (cell.first, cell.second) in marks) for cell in row])
        for name, row in zip(classes, (part.cells[at * size : (at + 1) * size] for at in range(size)), strict=True)
    ]


def _heat(cell: CellPart, part: MetricPart, low: float, high: float, marked: bool) -> Heat:
    share = None
    if cell.mean is not None:
        share = 0.5 if high == low else (cell.mean - low) / (high - low)
        share = 1 - share if part.direction == "similarity" else share
    quartiles = f"quartiles {figure(cell.q1)}, {figure(cell.median)}, {figure(cell.q3)}"
    title = f"{cell.first} to {cell.second}: {quartiles}; {cell.count} pairs"
    deviation = f"± {figure(cell.deviation)}"
    return Heat(figure(cell.mean), deviation, title, share, cell.first == cell.second, marked)


def figure(value: float | None) -> str:
    """A value with about four digits."""
    if value is None:
        return number(None)
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def marked_sentences(part: MetricPart) -> list[str]:
    """One sentence for every class that is nearer to others than to itself."""
    names = dict.fromkeys(mark.name for mark in part.marks)
    return [
        f"{name}: {figure(next(mark.within for mark in part.marks if mark.name == name))} among themselves, nearer to "
        + ", ".join(f"{mark.nearer_to} ({figure(mark.between)})" for mark in part.marks if mark.name == name)
        for name in names
    ]


def no_marks(part: MetricPart) -> str:
    """What stands where no class is marked."""
    less = "less alike" if part.direction == "similarity" else "further apart"
    return f"No class is {less} within than to another class."


def subject(document: Distances) -> str:
    """What was measured."""
    drawn = {part.drawn for part in document.classes}
    each = f"{min(drawn)}" if len(drawn) == 1 else f"{min(drawn)} to {max(drawn)}"
    of = "the drawn images" if document.against == "sample" else f"all {document.data.samples} images"
    return (
        f"{document.data.name}: {each} images of each of {len(document.classes)} classes, drawn with seed "
        f"{document.seed}; nearest images among {of}"
    )


def rule_sentence(eps: EpsSummary) -> str:
    """What the levels mean."""
    settings = eps.settings
    unit = norms.name(eps.norm)
    if eps.rule == "half":
        among = "all images of the dataset" if settings.against == "all" else "the drawn images"
        return (
            f"{unit}: the largest whole level below half the distance to the nearest image of another class among "
            f"{among}; two such balls around images of different classes have no point in common"
        )
    images = "one image" if settings.combine == 1 else f"{settings.combine} images"
    return (
        f"{unit}: the largest level at which x0 + eps sign(x1) stays alike to x0, {settings.metric} "
        f"{number(settings.threshold, 6)} or more alike, for {images} x1 of each other class"
    )
