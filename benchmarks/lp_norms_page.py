"""The tables of docs/reproductions/lp-norms.md: what was measured, with the paper's figure beside it in italics."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from page import Sheet, command
from reproduction import table

from charpy.analysis.document import Assessment
from charpy.analysis.intervals import clopper_pearson
from charpy.runfile import RunFile

PIXELS = 28 * 28


def blocks(out: Path, folders: Sequence[str]) -> dict[str, str]:
    """Every block that the runs below `out` can fill, as Markdown."""
    texts = {
        "jsma": "\n".join(_jsma(out, [folder for folder in folders if folder.startswith("jsma/")])),
        "pairs": "\n".join(_pairs(out, [folder for folder in folders if folder.startswith(("l2/", "linf/"))])),
        "how": f"Written by `{command()}`. {Sheet('').machine}.",
    }
    return {name: text for name, text in texts.items() if text}


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
