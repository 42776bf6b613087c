"""Every defence on MNIST with LeNet, against attackers that overlook it, that know it, and that only ask.

    export CHARPY_DATA=DIR                        # mnist/
    python benchmarks/defenses.py                 # prints and writes benchmarks/results/defenses.md

A run for each defence, in a folder of its own under `--out`; the same command goes on where it was interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from page import Sheet, command

from charpy.analysis.document import Assessment, ThreatPart
from charpy.analysis.summary import RunSummary
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse

app = App(name="python benchmarks/defenses.py", help_format="plaintext", version_flags=[])
HOW = """LeNet on MNIST. In each cell: per cent of all images that are classified correctly and not broken, with the
95 % interval (Clopper & Pearson), by what the attacker sees: S, static, the network without its defence; A, adaptive,
the defended network, its scores and the gradients that the defence passes; B, black-box, its scores alone. Redrawn: the
defence of a randomised row with 10 other seeds, shown what A found; mean and 95 % interval (Student's t) over the
seeds. The smallest of S, A and B is what may be quoted, and it is an upper bound. Images on k/255."""
LEVELS = {"l0": (1, 3, 5, 10), "linf": (10, 25, 50, 76)}
"""Pixels, and 1/255 steps: up to 0.3, which is usual for MNIST."""
WITHOUT = "trained in, nothing to leave out"
OTHER_SHAPE = "without it, the network takes no image"


@dataclass(frozen=True)
class Row:
    """One defence: the network of the zoo, what stands before it, and why there is no static attacker, if so."""

    name: str
    model: str = "mnist-lenet"
    defenses: Sequence[tuple[str, dict[str, Any]]] = ()
    no_static: str = ""

    @property
    def attackers(self) -> list[str]:
        """Those that there can be."""
        return [*([] if self.no_static else ["static"]), "adaptive", "black-box"]

    @property
    def what(self) -> str:
        """As it stands in the table."""
        settings = [f"{key} {value}" for _, params in self.defenses for key, value in params.items()]
        return f"`{self.name}`<br>{'<br>'.join([self.model, *settings])}"


DRAWS = 10
"""Of the defences that vote: few enough for a table in minutes."""
ROWS = (
    Row("no defence", no_static="no defence to leave out"),
    Row("bilateral_filter", defenses=[("bilateral_filter", {})]),
    Row("feature_squeezing", defenses=[("feature_squeezing", {"squeezers": ["bit_depth_1", "median_filter_2_2"]})]),
    Row("jpeg", defenses=[("jpeg", {})]),
    Row("random_resize", defenses=[("random_resize", {"draws": 5})]),
    Row("spatial_smoothing", defenses=[("spatial_smoothing", {})]),
    Row("tvm", defenses=[("tvm", {"steps": 30, "draws": 2})]),
    Row("tvm, trained on it", "mnist-lenet-tvm", [("tvm", {"steps": 30, "draws": 2})]),
    Row("thermometer", "mnist-lenet-thermometer", [("thermometer", {"levels": 16})], OTHER_SHAPE),
    Row("randomized_smoothing", "mnist-lenet-noise", [("randomized_smoothing", {"sigma": 0.5, "draws": DRAWS})]),
    Row(
        "randomized_ablation",
        "mnist-lenet-ablation",
        [("randomized_ablation", {"keep": 45, "encoding": "doubled", "draws": DRAWS})],
        OTHER_SHAPE,
    ),
    Row("adversarial_training", "mnist-lenet-at", no_static=WITHOUT),
    Row("trades", "mnist-lenet-trades", no_static=WITHOUT),
    Row("distillation", "mnist-lenet-distilled", no_static=WITHOUT),
)


def battery(norm: str, queries: int) -> list[dict[str, Any]]:
    """The gradient attacks of `fast`, which a black-box attacker leaves out, then a score-based one."""
    if norm == "l0":
        kinds = [("sigma_zero", {"steps": 100}), ("sparse_rs", {})]
    else:
        kinds = [("apgd_ce", {"steps": 25}), ("apgd_t", {"steps": 25, "targets": 3}), ("square", {})]
    return [{"kind": kind, "params": params, "queries": queries} for kind, params in kinds]


def spec_of(row: Row, images: int, queries: int, seed: int) -> RunSpec:
    """The run of one defence."""
    place = registry().load("datasets", "mnist").accepts("mnist", os.environ.get("CHARPY_DATA"))
    document: dict[str, Any] = {
        "name": row.name,
        "seed": seed,
        "data": {"kind": "mnist", "params": place or {}, "samples": images, "seed": seed},
        "models": [
            {
                "reference": row.model,
                "defenses": [{"kind": kind, "params": params} for kind, params in row.defenses],
                "attackers": row.attackers,
            }
        ],
        "threats": [
            {"norm": norm, "levels": list(levels), "queries": queries, "battery": battery(norm, queries)}
            for norm, levels in LEVELS.items()
        ],
    }
    return parse(RunSpec, document, where=row.name)


def cells(row: Row, found: Sequence[Assessment]) -> Iterator[tuple[str, ...]]:
    """One table row for each norm."""
    by = {part.model.attackers: part for part in found}
    clean = by["adaptive"].clean
    redrawn = {(part.norm, part.th): part for part in by["adaptive"].redraws}

    def again(norm: str, th: int) -> str:
        part = redrawn.get((norm, th))
        return "" if part is None else f"<br>redrawn {_per_cent(part.mean, part.interval)}"

    for norm, levels in LEVELS.items():
        columns = []
        for th in levels:
            parts = {name: _at(part, norm, th) for name, part in by.items()}
            shares = {name: _standing(part) for name, part in parts.items()}
            lines = [
                f"S {shares['static']}" if "static" in shares else "S -",
                f"A {shares['adaptive']}{again(norm, th)}",
            ]
            columns.append("<br>".join([*lines, f"B {shares['black-box']}"]))
        accuracy = _per_cent(clean.value or 0.0, (clean.low or 0.0, clean.high or 0.0)) + again("", 0)
        yield (row.what + (f"<br>S: {row.no_static}" if row.no_static else ""), norm, accuracy, *columns)


def _at(found: Assessment, norm: str, th: int) -> ThreatPart:
    return next(part for part in found.threats if (part.norm, part.th) == (norm, th))


def _standing(part: ThreatPart) -> str:
    value, interval = part.robust_accuracy.not_broken, part.interval.not_broken
    return "-" if value is None or interval is None else _per_cent(value, interval)


def _per_cent(value: float, interval: tuple[float, float]) -> str:
    low, high = (100 * min(1.0, max(0.0, end)) for end in interval)
    return f"{100 * value:.0f} [{low:.0f}, {high:.0f}]"


@app.default
def main(
    *, out: Path = Path("charpy-defenses"), images: int = 40, queries: int = 300, seed: int = 0, only: str = "",
    page: Path = Path(__file__).parent / "results" / "defenses.md",
) -> None:  # fmt: skip
    """Measure every defence.

    Args:
        out: folder of the run files.
        images: drawn from the test split.
        queries: model rows that each attack may spend per image and level.
        seed: which images, and of the attacks.
        only: names of rows, separated by commas; all if not given.
        page: the Markdown file.
    """
    torch.set_num_threads(1)
    known, chosen = {entry.kind for entry in registry().entries("models")}, only.split(",") if only else []
    sheet, missing = Sheet("defenses"), []
    sheet.table("defence | norm | clean | 1 px, or 10/255 | 3 px, or 25/255 | 5 px, or 50/255 | 10 px, or 76/255")
    for row in ROWS:
        if chosen and row.name not in chosen:
            continue
        if row.model not in known:
            missing.append(f"{row.name} (no weights of {row.model})")
            continue
        folder = out / row.name.replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        evaluate(spec_of(row, images, queries, seed), folder / "run.charpy")
        with RunFile.open(folder / "run.charpy") as run:
            found = RunSummary.of(run).assessments
        for line in cells(row, found):
            sheet.row(*line)
        print(f"{row.name}: {time.perf_counter() - started:.0f} s", flush=True)
    batteries = "; ".join(f"{norm}: {', '.join(step['kind'] for step in battery(norm, queries))}" for norm in LEVELS)
    setting = (
        f"{images} test images, drawn; {batteries} (B: the last alone), {queries} model rows each per image and level."
    )
    head = ["# Defences", "", f"Written by `{command()}`.", "", HOW, "", setting, "", f"{sheet.machine}."]
    gone = ["", f"Left out: {', '.join(missing)}."] if missing else []
    page.write_text("\n".join([*head, *sheet.lines, *gone, ""]), encoding="utf-8")


if __name__ == "__main__":
    app()
