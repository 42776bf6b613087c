"""The tables of docs/reproductions/lp-norms.md: what was measured, with the paper's figure beside it in italics."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import Sheet, command
from reproduction import table

from charpy.analysis.document import Assessment
from charpy.analysis.intervals import clopper_pearson
from charpy.runfile import RunFile

PIXELS = 28 * 28

ENGSTROM = "perceive-engstrom"


def blocks(out: Path, folders: Sequence[str]) -> dict[str, str]:
    """Every block that the runs below `out` can fill, as Markdown; one whose runs are not there is left out."""

    def there(*starts: str) -> list[str]:
        return [folder for start in starts for folder in folders if folder.startswith(start)]

    made: dict[str, tuple[list[str], Callable[[Path, list[str]], Iterator[str]]]] = {
        "jsma": (there("jsma/"), _jsma),
        "pairs": (there("l2/", "linf/"), _pairs),
        "heat": (there("distances"), lambda out, _: _heat(out / "distances")),
        "eps": (there("eps"), lambda out, _: _eps(out / "eps")),
        "far": (there("perceive-cifar10", ENGSTROM), _far),
        "conditions": (there("perceive-cifar10", "perceive-mnist"), _conditions),
        "witnesses": (there("perceive-witnesses"), _conditions),
    }
    texts = {name: "\n".join(make(out, found)) for name, (found, make) in made.items() if found}
    return {**texts, "how": f"Written by `{command()}`. {Sheet('').machine}."}


def _jsma(out: Path, folders: Sequence[str]) -> Iterator[str]:
    rows = []
    for folder in folders:
        report, values = _read(out / folder)
        for place, part in enumerate(report.characteristics):
            pixels = 100 * np.array(values[place, "l0_pixels"]) / PIXELS
            success = (
                f"{part.success.count} of {part.success.total} {_interval(part.success.count, part.success.total)}"
            )
            rows.append((folder.partition("/")[2], part.name, success, _spread(pixels)))
    yield from table(["model", "JSMA", "success", "share of pixels changed, %"], rows)
    yield "\nThe paper: *68 of 75*, *4.90 +- 2.91 %*."


def _pairs(out: Path, folders: Sequence[str]) -> Iterator[str]:
    rows = []
    for folder in folders:
        report, values = _read(out / folder)
        norm, _, model = folder.partition("/")
        found = [_by_sample(out / folder, place) for place in range(2)]
        both = sorted(found[0].keys() & found[1].keys())
        apart = sum(found[1][sample] < found[0][sample] for sample in both)
        for place, part in enumerate(report.characteristics):
            ssim = np.array(values[place, "ssim"])
            quartiles = (
                " / ".join(f"{value:.2f}" for value in np.quantile(ssim, (0.25, 0.5, 0.75))) if len(ssim) else "-"
            )
            success = f"{part.success.count} of {part.success.total}"
            length = _spread(np.array(values[place, norm]), digits=3)
            lower = f"{apart} of {len(both)}" if place else ""
            rows.append((norm, model, part.name, success, length, quartiles, lower))
    head = ["norm", "model", "mode", "success", "distance", "SSIM, quartiles", "perceptible is lower"]
    yield from table(head, rows)


def _heat(folder: Path) -> Iterator[str]:
    """The blog's heat map: mean L2 distance of two images, by their classes."""
    document = _json(folder / "distances.json")
    names = [part["name"] for part in document["classes"]]
    (found,) = (part for part in document["metrics"] if part["kind"] == "l2")
    means = {(cell["first"], cell["second"]): cell["mean"] for cell in found["cells"]}
    means |= {(second, first): mean for (first, second), mean in means.items()}
    rows = []
    for first in names:
        own = means[first, first]
        cells = [f"{means[first, second]:.2f}" for second in names]
        nearer = [second == first or means[first, second] >= own for second in names]
        rows.append((first, *(cell if far else f"**{cell}**" for cell, far in zip(cells, nearer, strict=True))))
    yield from table(["class", *names], rows)
    marked = [
        f"{first} ({means[first, first]:.2f} among themselves) to {second} ({means[first, second]:.2f})"
        for first in names
        for second in names
        if means[first, second] < means[first, first]
    ]
    yield f"\nNearer to another class than to itself: {'; '.join(marked) or 'none'}."


def _eps(folder: Path) -> Iterator[str]:
    """Levels by class."""
    classes = _json(folder / "distances.json")["eps"]["classes"]
    rows = [
        (name, str(part["th"]), *(f"{part[key]:g}" for key in ("q1", "median", "q3")), str(part["most"]))
        for name, part in classes.items()
    ]
    yield from table(["class", "smallest", "quartile", "median", "quartile", "largest"], rows)


PICTURES = {"l0_features": 3010.0, "l2": 15.83, "linf": 0.87}
"""Section 3.1: what two pictures of 32 x 32, turned or shifted, are at least."""


def _far(out: Path, folders: Sequence[str]) -> Iterator[str]:
    """How far look-alikes are, beside section 3.1."""
    rows: list[Sequence[str]] = []
    for folder in folders:
        pairs = _pairs_of(out / folder / "pairs.csv")
        for group in _json(out / folder / "perceive.json")["groups"]:
            if not group["alike"] or (folder == ENGSTROM and group["name"] in {"scaled", "brighter or darker"}):
                continue
            values = [group["values"][kind] for kind in (*PICTURES, "ssim")]
            cells = (f"{part['median']:.4g} ({part['low']:.4g} to {part['high']:.4g})" for part in values)
            reached = np.array([[float(pair[kind]) for kind in PICTURES] for pair in pairs[group["name"]]])
            past = reached >= np.array(list(PICTURES.values()))
            shares = [*past.mean(0), past.all(1).mean()]
            rows.append((group["text"], *cells, " / ".join(f"{100 * share:.0f} %" for share in shares)))
    rows.append(("*the paper's two pictures*", "*>= 3,010*", "*>= 15.83*", "*>= 0.87*", "*0.36*", ""))
    head = ["change", "L0, features", "L2", "Linf", "SSIM", "past L0 / L2 / Linf / all"]
    yield from table(head, rows)


def _pairs_of(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of `pairs.csv`, by group."""
    found: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["group"]].append(row)
    return found


def _conditions(out: Path, folders: Sequence[str]) -> Iterator[str]:
    """The thresholds of prior work, and the areas."""
    for folder in folders:
        document = _json(out / folder / "perceive.json")
        rows, areas = [], []
        for part in document["metrics"]:
            if part["area"]:
                areas.append((part["area"]["value"], part["kind"]))
            for at in part["thresholds"]:
                if at["role"] == "usual":
                    left, let = (_percent(at[key]["value"]) for key in ("left_out", "let_in"))
                    rows.append((f"{part['kind']} {at['title']}", left, let))
        yield f"\n{document['data']}, {document['originals']} originals. {document['verdict']}\n"
        yield from table(["condition of prior work", "alike, left out", "different, let in"], rows)
        listed = ", ".join(f"{kind} {area:.3f}" for area, kind in sorted(areas, reverse=True))
        yield f"\nArea under the ROC curve: {listed}."


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read(folder: Path) -> tuple[Assessment, dict[tuple[int, str], list[float]]]:
    """The report, and by step and metric the values of all witnesses."""
    values: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    with RunFile.open(folder / "run.charpy") as run:
        for witness in run.witness_metrics(0):
            for name, value in witness.metrics.items():
                values[witness.step, name].append(value)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return Assessment.model_validate(report), values


def _by_sample(folder: Path, step: int) -> dict[int, float]:
    with RunFile.open(folder / "run.charpy") as run:
        return {row.sample: row.metrics["ssim"] for row in run.witness_metrics(0) if row.step == step}


def _interval(count: int, total: int) -> str:
    found = clopper_pearson(count, total)
    return "" if found is None else f"[{found[0]:.2f}..{found[1]:.2f}]"


def _spread(values: np.ndarray, digits: int = 2) -> str:
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else "-"
