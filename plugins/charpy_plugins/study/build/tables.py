"""What `charpy study build` says of a study: its conditions, who was left out and why, classes, what is still open."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from charpy.cli.console import results
from charpy.reports.inert import visible
from charpy.threat import Norm
from charpy_plugins.study.build.build import Built
from charpy_plugins.study.build.texts import placeholders
from charpy_plugins.study.document import Condition, Kind, Stimulus, StudyDocument


def show(built: Built, path: Path) -> None:
    """Print the conditions, the losers by reason, the classes, notes and the path."""
    console, document = results(), built.study.document
    console.print(conditions_table(document))
    for condition in document.conditions:
        for loss in condition.losses:
            console.print(
                visible(f"left out of {condition.name}: {len(loss.originals)}: {loss.reason}"), soft_wrap=True
            )
    for line in classes(document):
        console.print(visible(line), soft_wrap=True)
    for note in built.notes:
        console.print(visible(f"note: {note}"), soft_wrap=True)
    if still := placeholders(document):
        named = ", ".join(f"[[{name}]]" for name in still)
        console.print(visible(f"to be filled in before anybody is asked: {named}"), soft_wrap=True)
    console.print(visible(str(path)), soft_wrap=True)


def conditions_table(document: StudyDocument) -> Table:
    """A row a condition: how many stimuli of how many candidates, their mean distance and mean SSIM."""
    threat = document.source.threat
    height, width = document.source.shape[1:]
    table = Table(title=visible(f"{document.name}: stimuli by condition"))
    table.add_column("condition")
    table.add_column("kind")
    for column in ("candidates", "stimuli", "distance", "SSIM"):
        table.add_column(column, justify="right")
    table.caption = "distance, SSIM: mean ± standard deviation" + (
        "" if threat is None or threat.norm != Norm.L0 else f"; % of {height} x {width} pixels"
    )
    for condition in document.conditions:
        stimuli = document.of(condition.name)
        table.add_row(
            condition.name,
            condition.kind.value,
            str(condition.candidates),
            _count(condition, stimuli),
            _distance(stimuli, None if threat is None else threat.norm, height * width),
            _spread([stimulus.metrics["ssim"] for stimulus in stimuli if "ssim" in stimulus.metrics], 3),
        )
    return table


def classes(document: StudyDocument) -> list[str]:
    """The balance of the classes, a line for all conditions where it is one."""
    lines: dict[str, list[str]] = {}
    for condition in document.conditions:
        counts = Counter(stimulus.label for stimulus in document.of(condition.name))
        if counts:
            line = ", ".join(f"{label}: {counts[number]}" for number, label in enumerate(document.labels))
            lines.setdefault(line, []).append(condition.name)
    return [f"classes in {', '.join(names)}: {line}" for line, names in lines.items()]


def _count(condition: Condition, stimuli: Sequence[Stimulus]) -> str:
    return "to be painted" if condition.kind is Kind.PAINTED and not stimuli else str(len(stimuli))


def _distance(stimuli: Sequence[Stimulus], norm: str | None, pixels: int) -> str:
    values = [stimulus.distance for stimulus in stimuli if stimulus.distance is not None]
    if norm == Norm.L0:
        return _spread([100 * value / pixels for value in values], 2, " %")
    if norm == Norm.L2:
        return _spread([value / 255 for value in values], 3)
    return _spread(values, 1, "" if norm in (None, Norm.UNRESTRICTED) else "/255")


def _spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    if not values:
        return "-"
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
    return f"{mean:.{digits}f}{unit} ± {deviation:.{digits}f}{unit}"
