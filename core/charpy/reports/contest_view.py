"""What the HTML page shows of a contest: per distance a chart with its legend, and a table of the attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charpy.analysis.document import CharacteristicPart
from charpy.reports.characteristic_chart import characteristic_svg, distance_title, image_values
from charpy.reports.lines import Line, line


@dataclass(frozen=True)
class AloneRow:
    """One attack of a contest: its interval, and its distortions in the unit of the table."""

    part: CharacteristicPart
    interval: tuple[float, float] | None
    mean: float | None
    largest: float | None


@dataclass(frozen=True)
class Contest:
    """The attacks of a contest that are measured by one distance."""

    title: str
    lines: tuple[Line, ...]
    chart: str
    rows: tuple[AloneRow, ...]
    invalid: bool


def contest_view(parts: Sequence[CharacteristicPart], prefix: str) -> tuple[Contest, ...]:
    """The attacks, by the distance that they are measured by; `prefix` keeps the ids of a page apart."""
    groups = []
    for distance in dict.fromkeys(part.distance for part in parts):
        group = [part for part in parts if part.distance == distance]
        lines = tuple(line(part.name, place) for place, part in enumerate(group))
        chart = characteristic_svg(group, f"{prefix}-alone-{distance}")
        rows = tuple(_alone(part) for part in group)
        groups.append(Contest(distance_title(distance), lines, chart, rows, any(part.invalid for part in group)))
    return tuple(groups)


def _alone(part: CharacteristicPart) -> AloneRow:
    low, high = part.success.low, part.success.high
    mean, largest = (
        None if value is None else image_values(part.distance, value) for value in (part.mean, part.largest)
    )
    return AloneRow(part, None if low is None or high is None else (low, high), mean, largest)
