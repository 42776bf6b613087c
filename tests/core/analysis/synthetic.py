"""Run files made by hand: who is broken where, at what distance and cost, is written down; the rest follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charpy.outcome import Outcome
from charpy.pixels import pack
from charpy.records import ResultRow, SampleRow, UnitKey, UnitRecord, WitnessRow
from charpy.runfile import RunFile
from charpy.threat import Grid

LEVELS = (1, 3, 5, 10)
BUDGET = 100
SECONDS_PER_ROW = 1e-5
OVERHEAD = 2.0
SHAPE = (1, 4, 4)
ATTACKS = {
    "l0": ("few-de", "few-cma"),
    "l1": ("ead", "apgd1"),
    "l2": ("ddn", "apgd2"),
    "linf": ("thr-de", "thr-cma"),
}
LABELS = (0, 0, 0, 0, 1, 1, 1, 1)


class Find(NamedTuple):
    """A witness of `sample`: searched at `th`, at `distance`, by the attack of `step` after `cost` queries."""

    norm: str
    sample: int
    th: int
    distance: float
    step: int = 0
    cost: int = 10


@dataclass
class Plan:
    """One model: its clean answers, and what the attacks do to it."""

    name: str
    predictions: Sequence[int | None] = (1, 0, 0, 0, 1, 1, 1, 1)
    finds: Sequence[Find] = ()
    invalid: Mapping[tuple[str, int, int], str] = field(default_factory=dict)  # (norm, sample, th) -> reason
    rejected: Mapping[tuple[str, int, int], str] = field(default_factory=dict)


FRAIL = Plan(
    "frail",
    finds=(
        Find("l0", 2, 1, 1, cost=10),
        Find("l0", 3, 3, 2, step=1, cost=20),
        Find("l0", 4, 5, 3, cost=30),
        Find("linf", 2, 1, 1, cost=10),
        Find("linf", 4, 3, 3, cost=30),
        Find("linf", 5, 10, 7, step=1, cost=50),
    ),
    rejected={("l0", 5, 3): "distance 9 is outside the threat model"},
)
"""Sample 0 is a clean error; under L0 2, 3, 4 break at 1, 2, 3 pixels, under Linf 2, 4, 5 at 1, 3, 7 steps."""

FOUR_LEVELS = {"l0": LEVELS, "linf": LEVELS, "l2": (32, 64, 128, 255), "l1": (510, 1530, 3060)}

FOUR = Plan(
    "four",
    finds=(
        *FRAIL.finds,
        Find("l2", 2, 32, 28.5),
        Find("l2", 4, 64, 60.0, step=1),
        Find("l2", 5, 128, 100.25),
        Find("l1", 2, 510, 120.0),
        Find("l1", 3, 1530, 140.0, step=1),
    ),
)
"""As FRAIL, and under L2 2, 4, 5 break at 28.5, 60, 100.25 steps, under L1 2 and 3 at 120 and 140."""

DRILLS = [
    {"model": 0, "norm": norm, "th": 10, "step": step, "attack": ATTACKS[norm][step], "access": "SCORES",
     "planted": 8, "found": found, "unbounded": 8 * (step == 0), "reached": 8 * (step == 0), "failure": ""}
    for norm, found in (("l0", 8), ("linf", 3))
    for step in (0, 1)
]  # fmt: skip
"""Model 0 under L0: every planted example found; under Linf 3 of 8, so its figures are weak."""

SICK = Plan(
    "sick",
    predictions=(1, None, 0, 0, 1, 1, 1, 1),
    finds=FRAIL.finds,
    invalid={("l0", 6, 3): "NaN in the scores"},
)
"""As FRAIL, but sample 1 gets no valid answer at all, and sample 6 none under L0 at th = 3."""


def build(
    path: Path,
    plans: Sequence[Plan] = (FRAIL, SICK),
    *,
    levels: Sequence[int] | str | Mapping[str, Sequence[int] | str] = LEVELS,
    norms: Sequence[str] = ("l0", "linf"),
    carry: bool = True,
    grid: Grid = Grid.EIGHT_BIT,
    labels: Sequence[int] = LABELS,
    class_names: Sequence[str] = ("cat", "dog"),
    shape: tuple[int, int, int] = SHAPE,
    finished: bool = True,
    stop_after: int | None = None,
    probes: Sequence[int] = (64, 8, 4, 2, 1),
    **meta: Any,
) -> RunFile:
    """An open run file in which `plans` came true, in shards of four samples; `stop_after` units are written.

    `levels` are those of every norm, or by norm.
    """
    by_norm = levels if isinstance(levels, Mapping) else dict.fromkeys(norms, levels)
    spec = {
        "name": "synthetic",
        "seed": 3,
        "data": {"kind": "arrays"},
        "models": [{"name": plan.name, "reference": plan.name} for plan in plans],
        "threats": [
            {"norm": norm, "levels": of_norm if isinstance(of_norm, str) else list(of_norm), "queries": BUDGET}
            for norm, of_norm in by_norm.items()
        ],
        "carry": carry,
        "grid": grid.value,
        "shard": 4,
    }
    run = RunFile.create(path, spec, {"spec": "by hand"})
    run.set_meta(
        dataset=_dataset(labels, class_names, shape, grid),
        models=[_model(plan.name, shape, class_names) for plan in plans],
        environment={"charpy": "0", "python": "3"},
        plugins={"attack few_pixel": "charpy 0"},
        warnings=[],
        finished=finished,
    )
    run.set_meta(**meta)
    units = []
    for index, plan in enumerate(plans):
        ids = [f"id-{i}" for i in range(len(labels))]
        rows = [
            SampleRow(i, ids[i], labels[i], plan.predictions[i], plan.predictions[i] is not None)
            for i in range(len(labels))
        ]
        run.write_samples(index, rows)
        for norm, of_norm in by_norm.items():
            search = isinstance(of_norm, str)
            units += _walk(index, plan, norm, probes if search else of_norm, rows, carry or search, grid, shape)
    for record in units[:stop_after]:
        run.write_unit(record)
    return run


def images(norm: str, distance: float, shape: tuple[int, int, int], grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """An original, and an image at exactly `distance` from it; stored type of `grid`."""
    original = torch.full(shape, 100.0, dtype=torch.float64)
    witness = original.clone()
    if norm == "l0":
        witness.flatten(1)[:, : int(distance)] = 200.0
    elif norm in ("l1", "l2"):
        witness[0, 0, 0] += distance
    else:
        witness += distance
    if grid is Grid.EIGHT_BIT:
        return original.to(torch.uint8), witness.to(torch.uint8)
    return (original / 255).float(), (witness / 255).float()


def _walk(
    index: int,
    plan: Plan,
    norm: str,
    climb: Sequence[int],
    rows: Sequence[SampleRow],
    carry: bool,
    grid: Grid,
    shape: tuple[int, int, int],
) -> list[UnitRecord]:
    finds = {(f.sample, f.th, f.step): f for f in plan.finds if f.norm == norm}
    nearest: dict[int, float] = {}
    units = []
    for number, th in enumerate(climb):
        found_here: set[int] = set()
        for step in (0, 1):
            for shard in range(0, len(rows), 4):
                results, witnesses, originals, rejected = [], [], {}, {}
                for row in rows[shard : shard + 4]:
                    standing = nearest.get(row.sample, 1e9) > th if carry else row.sample not in found_here
                    if row.prediction != row.label or not standing:
                        continue
                    if (reason := plan.invalid.get((norm, row.sample, th))) and step == 0:
                        results.append(ResultRow(row.sample, Outcome.INVALID, 1, None, reason))
                    elif find := finds.get((row.sample, th, step)):
                        results.append(ResultRow(row.sample, Outcome.BROKEN, find.cost, find.cost))
                        original, image = images(norm, find.distance, shape, grid)
                        metrics = {"l2": find.distance * 10}
                        witnesses.append(
                            WitnessRow(row.sample, find.distance, 1 - row.label, pack_(image, grid), metrics)
                        )
                        originals[row.sample] = pack_(original, grid)
                        nearest[row.sample] = find.distance
                        found_here.add(row.sample)
                    else:
                        results.append(ResultRow(row.sample, Outcome.HELD, BUDGET))
                    if step == 0 and (why := plan.rejected.get((norm, row.sample, th))):
                        rejected[row.sample] = why
                if not results:
                    continue
                spent = sum(result.queries for result in results)
                units.append(
                    UnitRecord(
                        UnitKey(index, norm, th, step, shard // 4, number if len(set(climb)) < len(climb) else 0),
                        ATTACKS[norm][step],
                        "few_pixel" if norm == "l0" else "threshold",
                        spent,
                        spent * SECONDS_PER_ROW * OVERHEAD,
                        {"params": {"popsize": 4}, "queries": BUDGET, "bare_seconds": spent * SECONDS_PER_ROW},
                        results,
                        witnesses,
                        originals,
                        rejected,
                    )
                )
    return units


def pack_(image: torch.Tensor, grid: Grid) -> bytes:
    return pack(image, grid)


def _model(name: str, shape: tuple[int, int, int], class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "callable",
        "access": "SCORES",
        "output": "logits",
        "input_shape": list(shape),
        "num_classes": len(class_names),
        "engine": "as given",
        "micro_batch": 32,
        "defenses": [],
        "fingerprint": {"weights": "00ff"},
        "notes": [],
    }


def _dataset(
    labels: Sequence[int], class_names: Sequence[str], shape: tuple[int, int, int], grid: Grid
) -> dict[str, Any]:
    return {
        "name": "by hand",
        "kind": "arrays",
        "samples": len(labels),
        "unique": len(labels),
        "shape": list(shape),
        "class_names": list(class_names),
        "grid": grid.value,
        "fingerprint": "abcd",
        "notes": [],
    }
