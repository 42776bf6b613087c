"""few_pixel and threshold beside ART's PixelAttack and ThresholdAttack: same process, model and images.

    pip install 'charpy[attacks]'
    python benchmarks/dual_vs_art.py

Writes one page per model, benchmarks/results/dual_vs_art_MODEL.md.

Compared by queries, never by iterations: each of our runs gets, per image, the budget that ART's optimiser may spend at
most. ART gets its fastest set-up: a float32 model on the 0..255 scale (no rescaling), channels first, softmax inside.
`overhead` is wall time / (rows x the bare torch module's best time per row over all batch sizes).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charpy.engine import QueryEngine
from charpy.environment import environment
from charpy.interfaces.attack import Attack
from charpy.interfaces.model import Model, Output
from charpy.judge import Judge
from charpy.planned import PlannedAttack
from charpy.plugins import registry
from charpy.records import UnitKey, UnitRecord
from charpy.search import cma_es, differential_evolution
from charpy.threat import Access, Norm, ThreatModel
from charpy.unit import Bench, Shard, compute_unit

LEVELS = (1, 3, 5, 10)
DATA = {"digits-cnn": "digits", "mnist-lenet": "mnist", "cifar10-cnn": "cifar10"}
KINDS = {Norm.L0: "few_pixel", Norm.LINF: "threshold"}
DEFAULT_QUERIES = 5000


@dataclass(frozen=True)
class Run:
    """What one attack did to the images: share broken, rows, wall seconds."""

    broken: float
    rows: int
    images: int
    seconds: float

    def overhead(self, bare: float) -> float:
        """Wall time over that of the same rows through the bare model."""
        return self.seconds / (self.rows * bare)


@dataclass(frozen=True)
class Stage:
    """A model with correctly classified images, and what a row costs it."""

    name: str
    model: Model
    bench: Bench
    images: torch.Tensor
    labels: torch.Tensor

    @property
    def bare(self) -> float:
        """The torch module's best seconds per row."""
        return self.bench.engine.bare.seconds_per_row

    def shard(self, count: int) -> Shard:
        """The first `count` images."""
        ids = tuple(f"{self.name}/{i}" for i in range(count))
        return Shard(list(range(count)), self.images[:count], self.labels[:count], ids)


def stage(name: str, count: int, seed: int = 5) -> Stage:
    """`count` correctly classified test images of a zoo model; `seed` decides which."""
    plugins = registry()
    reference = plugins.load("datasets", DATA[name]).accepts(DATA[name], os.environ.get("CHARPY_DATA"))
    data = plugins.create("datasets", DATA[name], reference)
    model: Model = plugins.create("models", name)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[: 2 * count + 20].tolist()
    piece = data.read(order)
    with torch.no_grad():
        right = (model.predict(piece.images).argmax(1) == piece.labels).nonzero()[:count, 0]
    images, labels = piece.images[right], piece.labels[right]
    engine = QueryEngine.measure(model, Output.LOGITS, images[:64])
    judge = Judge(plugins.create("models", name), Output.LOGITS, tuple(images.shape[1:]))
    return Stage(name, model, Bench(model, engine, judge, int(model.num_classes or 10), seed=0), images, labels)


def ours(at: Stage, norm: Norm, th: int, params: dict[str, Any], queries: int, count: int) -> Run:
    """One of our attacks, judged."""
    attack: Attack = registry().create("attacks", KINDS[norm], params)
    threat = ThreatModel.at_level(norm, th, queries=queries, access=Access.SCORES)
    planned = PlannedAttack(KINDS[norm], KINDS[norm], attack, None)
    record: UnitRecord = compute_unit(UnitKey(0, norm, th, 0, 0), at.shard(count), planned, threat, at.bench)
    return Run(len(record.witnesses) / count, record.rows, count, record.seconds)


class Counted(torch.nn.Module):
    """The module on the 0..255 scale with softmax inside, counting its rows."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module, self.rows = module, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        self.rows += len(images)
        return self.module(images / 255).softmax(1)


def art(at: Stage, norm: Norm, th: int, optimiser: str, iterations: int, count: int) -> Run:
    """ART's attack on the same images; success as a fresh prediction says, inside the threat model."""
    from art.attacks.evasion import PixelAttack, ThresholdAttack
    from art.estimators.classification import PyTorchClassifier

    counted = Counted(at.model.module)  # type: ignore[attr-defined]
    classifier = PyTorchClassifier(
        counted,
        torch.nn.CrossEntropyLoss(),
        tuple(at.images.shape[1:]),
        10,
        clip_values=(0.0, 255.0),
        device_type="cpu",
    )
    kind = PixelAttack if norm is Norm.L0 else ThresholdAttack
    attack = kind(classifier, th=th, es=1 if optimiser == "de" else 0, max_iter=iterations, verbose=False)
    images = (at.images[:count] * 255).round().numpy()
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global generator
    begin = time.perf_counter()
    found = attack.generate(images, y=np.eye(10)[at.labels[:count].numpy()])
    seconds = time.perf_counter() - begin
    rows = counted.rows
    stored = torch.from_numpy(np.clip(found, 0, 255).astype(np.uint8))
    with torch.no_grad():
        wrong = at.bench.judge.classify(stored)[0] != at.labels[:count]
    gap = (stored.float() - torch.from_numpy(images)).abs()
    size = (gap > 0).any(1).flatten(1).sum(1) if norm is Norm.L0 else gap.flatten(1).amax(1)
    return Run(float((wrong & (size <= th)).float().mean()), rows, count, seconds)


def budget(at: Stage, norm: Norm, th: int, optimiser: str, cap: int) -> tuple[int, int]:
    """ART's iterations and the most queries they can cost: 100 iterations, or as many as `cap` queries allow."""
    channels = at.images.shape[1]
    dimension = (2 + channels) * th if norm is Norm.L0 else at.images[0].numel()
    if optimiser == "cma-es":
        return 100, 100 * cma_es.default_population(dimension) + 101  # one prediction after each iteration
    population = differential_evolution.default_population(dimension)
    iterations = max(1, min(100, cap // population - 1))
    return iterations, population * (iterations + 1) + iterations + 1


def compare(at: Stage, optimiser: str, norm: Norm, th: int, count: int, cap: int) -> str:
    """One row of the table: ART, ours with the paper's settings, ours with fitness = margin, ours by default."""
    if optimiser == "cma-es" and norm is Norm.LINF and at.images[0].numel() > 1000:
        count = max(1, count // 4)  # ART's full covariance takes half a minute an image here
    iterations, queries = budget(at, norm, th, optimiser, cap)
    theirs = art(at, norm, th, optimiser, iterations, count)
    paper = ours(at, norm, th, {"optimiser": optimiser}, queries, count)
    margin = ours(at, norm, th, {"optimiser": optimiser, "fitness": "margin"}, queries, count)
    steps = registry().create("attacks", "black-box").steps(norm, Access.SCORES)
    step = next(step for step in steps if step.kind in ("few_pixel", "threshold"))
    default = ours(at, norm, th, step.params, DEFAULT_QUERIES, count)
    per_query = (theirs.seconds / theirs.rows) / (paper.seconds / paper.rows)
    row = (
        f"| {at.name} | {norm} | {optimiser} | {th} | {count} | {queries:,} "
        f"| {theirs.broken:.0%} / {theirs.rows // count:,} / {theirs.seconds:.1f} s / {theirs.overhead(at.bare):.1f} "
        f"| {paper.broken:.0%} / {paper.rows // count:,} / {paper.seconds:.2f} s / {paper.overhead(at.bare):.2f} "
        f"| {margin.broken:.0%} / {margin.overhead(at.bare):.2f} | {per_query:.1f}x "
        f"| {default.broken:.0%} / {default.seconds:.2f} s / {default.seconds / theirs.seconds:.3f} |"
    )
    print(row, flush=True)
    return row


def overheads(at: Stage, count: int, queries: int) -> Iterator[str]:
    """Our overhead at `count` samples with the paper's settings: per level the median of three runs, and over all."""
    for norm in (Norm.L0, Norm.LINF):
        for optimiser in ("cma-es", "de"):
            values, rows, wall = [], 0, 0.0
            samples, spend = count, queries
            if optimiser == "de" and norm is Norm.LINF:  # at least two generations, on fewer images for as many rows
                spend = max(queries, 2 * differential_evolution.default_population(at.images[0].numel()))
                samples = max(1, count * queries // spend)
            params: dict[str, Any] = {"optimiser": optimiser}
            for th in LEVELS:
                runs = [ours(at, norm, th, params, spend, samples) for _ in range(3)]
                values.append(float(np.median([run.overhead(at.bare) for run in runs])))
                rows += runs[0].rows
                wall += float(np.median([run.seconds for run in runs]))
            engine = at.bench.engine.chosen.seconds_per_row / at.bare
            total = wall / (rows * at.bare)
            yield (
                f"| {at.name} | {norm} | {optimiser} | {samples} | {rows:,} | {at.bare * 1e6:.1f} | {engine:.2f} "
                f"| {' / '.join(f'{value:.2f}' for value in values)} | {total:.2f} | {total / engine:.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the pages")
    parser.add_argument("--models", default=",".join(DATA))
    parser.add_argument("--images", type=int, default=20, help="images in the comparison with ART")
    parser.add_argument("--samples", type=int, default=100, help="images in the overhead table")
    parser.add_argument("--queries", type=int, default=1000, help="queries an image in the overhead table")
    parser.add_argument("--cap", type=int, default=25_000, help="most queries an image that ART's DE may spend")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = environment()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models.split(","):
        at = stage(name, options.samples)
        extra = list(overheads(at, options.samples, options.queries))
        print("\n".join(extra), flush=True)
        lines = [
            compare(at, optimiser, norm, th, options.images, options.cap)
            for norm in (Norm.L0, Norm.LINF)
            for optimiser in ("cma-es", "de")
            for th in LEVELS
        ]
        page = _page(name, started, lines, extra, options.queries)
        (options.out / f"dual_vs_art_{name}.md").write_text(page, encoding="utf-8")


def _page(name: str, started: dict[str, Any], lines: list[str], extra: list[str], queries: int) -> str:
    import art as library

    machine = ", ".join(f"{key} {value}" for key, value in started.items())
    return "\n".join([
        f"# {name}: few_pixel and threshold beside ART's PixelAttack and ThresholdAttack",
        "",
        f"Written by `python {' '.join(sys.argv)}`; its docstring says how the sides are set up.",
        "",
        f"Machine: {machine}; ART {library.__version__}; load at the end {os.getloadavg()[0]:.1f}.",
        "",
        "## Beside ART, at equal query budgets",
        "",
        "`budget`: most queries an image, the same for ART and for our paper and margin runs. ART, ours (paper):",
        "broken / queries an image / wall / overhead. `per query`: ART's wall time per query over ours, same optimiser",
        "and settings. Default: what `charpy assess` does with 5,000 queries: broken / wall / share of ART's wall.",
        "",
        "| model | norm | optimiser | th | images | budget | ART | ours, paper settings "
        "| ours, margin: broken / overhead | per query | default |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
        "## Our overhead",
        "",
        f"{queries:,} queries an image, the paper's settings, median of three runs a level. `bare`: the torch",
        "module's best time per row in microseconds. `engine`: the chosen engine's bare time over that. Overhead is",
        "against the bare torch module; the last column divides by `engine`: against the fastest bare way to do it.",
        "",
        "| model | norm | optimiser | samples | rows | bare | engine | overhead at th 1 / 3 / 5 / 10 | all levels "
        "| over engine |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *extra,
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
