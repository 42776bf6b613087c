"""One unit of work: one shard of samples through one attack at one level, judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from charpy.engine import QueryEngine
from charpy.errors import BudgetError, PluginError, ServiceError, told_of
from charpy.global_state import global_state_kept
from charpy.interfaces.attack import Family, Task
from charpy.interfaces.model import Model
from charpy.judge import Claim, Judge, Verdict
from charpy.ledger import Candidates
from charpy.oracle import Oracle
from charpy.outcome import Outcome
from charpy.pixels import as_images, pack
from charpy.planned import PlannedAttack
from charpy.planted import Drill, drill
from charpy.random import Random, sample_keys
from charpy.records import ResultRow, UnitKey, UnitRecord, WitnessRow
from charpy.threads import threads
from charpy.threat import Goal, ThreatModel


@dataclass(frozen=True)
class Bench:
    """What every unit of one model works with: the model, its engine, the judge with a model of its own, the seed."""

    model: Model
    engine: QueryEngine
    judge: Judge
    num_classes: int
    seed: int


@dataclass(frozen=True)
class Shard:
    """The samples of one unit: run indices, images `(N, C, H, W)` in [0, 1], labels `(N,)` and ids."""

    samples: list[int]
    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]


def compute_unit(
    key: UnitKey,
    shard: Shard,
    planned: PlannedAttack,
    threat: ThreatModel,
    bench: Bench,
    tick: Callable[[float, int], None] | None = None,
) -> UnitRecord:
    """Attack the shard, judge what was found, and return everything to be stored.

    A model or an attack that raises costs this unit only: its samples without a witness are invalid, with the reason.
    `tick` is called with the share of the unit that is done and the rows spent, after every batch.
    """
    device = bench.model.device
    images, labels = shard.images.to(device), shard.labels.to(device)
    random = Random(bench.seed, sample_keys(shard.ids).to(device))
    targets = drawn_targets(random, labels, bench.num_classes) if threat.goal is Goal.TARGETED else None
    minimise = planned.attack.family is not Family.TARGET_DISTORTION
    stream = random.fork(f"{planned.name}/{key.step}/{threat.norm}/{key.th}/{key.round}")

    def attack(engine: QueryEngine) -> tuple[Oracle, Task, Any, str]:
        oracle = Oracle(engine, bench.model, images, labels, targets, threat, minimise=minimise, tick=tick)
        copies = images.clone(), labels.clone(), None if targets is None else targets.clone()
        task = Task(*copies, threat, oracle, stream)
        return oracle, task, *_run(planned, task)

    started = time.perf_counter()
    engine = bench.engine
    oracle, task, returned, failure = attack(engine)
    if oracle.refuted:
        engine = engine.without_shortcut()
        oracle, task, returned, failure = attack(engine)
    seconds = time.perf_counter() - started

    found = oracle.recorded()
    originals = [pack(image, threat.grid) for image in shard.images]
    witnesses, refused, unanswered = _judge_recorded(found, shard, originals, targets, threat, bench)
    rejected = _judge_returned(returned, witnesses, shard, originals, targets, threat, bench)
    invalid = found.invalid | unanswered.to(found.invalid.device)
    results = [
        _result(i, sample, found, witnesses, refused, bool(invalid[i]), failure)
        for i, sample in enumerate(shard.samples)
    ]
    detail = {
        "params": planned.attack.params.model_dump(mode="json"),
        "queries": threat.queries,
        "goal": threat.goal,
        "engine": engine.chosen.name,
        "gradient_rows": oracle.gradient_rows,
        "bare_seconds": engine.bare_seconds(oracle.rows, oracle.gradient_rows),
        "course": course(found),
        **({"notes": task.notes} if task.notes and not failure else {}),
        **({"failure": failure} if failure else {}),
    }
    return UnitRecord(
        key=key,
        attack=planned.name,
        kind=planned.kind,
        rows=oracle.rows,
        seconds=seconds,
        detail=detail,
        results=results,
        witnesses=list(witnesses.values()),
        originals={shard.samples[i]: originals[i] for i in range(len(originals)) if shard.samples[i] in witnesses},
        rejected=rejected,
    )


def lost_unit(
    key: UnitKey, samples: list[int], planned: PlannedAttack, threat: ThreatModel, bench: Bench, why: str
) -> UnitRecord:
    """A unit that is given up: all its samples are invalid, with the reason."""
    detail = {
        "params": planned.attack.params.model_dump(mode="json"),
        "queries": threat.queries,
        "goal": threat.goal,
        "engine": bench.engine.chosen.name,
        "gradient_rows": 0,
        "bare_seconds": 0.0,
        "course": {"held": 0, "gradients": 0, "vanished": None, "margins": []},
        "failure": why,
    }
    results = [ResultRow(sample, Outcome.INVALID, 0, None, why) for sample in samples]
    return UnitRecord(key, planned.name, planned.kind, rows=0, seconds=0.0, detail=detail, results=results)


def drill_attack(shard: Shard, planned: PlannedAttack, threat: ThreatModel, bench: Bench, *, unbounded: bool) -> Drill:
    """Try the attack where adversarial examples are known to exist (`charpy.planted`)."""
    device = bench.model.device
    images, labels = shard.images.to(device), shard.labels.to(device)
    random = Random(bench.seed, sample_keys(shard.ids).to(device))
    targets = drawn_targets(random, labels, bench.num_classes) if threat.goal is Goal.TARGETED else None

    def run(oracle: Oracle) -> str:
        copies = images.clone(), labels.clone(), None if targets is None else targets.clone()
        return _run(planned, Task(*copies, oracle.threat, oracle, random.fork(planned.name)))[1]

    return drill(run, bench.engine, images, labels, targets, threat, random, unbounded=unbounded)


def course(found: Candidates) -> dict[str, Any]:
    """How the search went on the samples that it did not break, for the failure indicators.

    `margins` are medians over those samples of the least margin seen, one per doubling of the rows; `vanished` is the
    share of their gradients that led nowhere.
    """
    held = ~found.found & ~found.invalid
    gradients = int(found.gradients[held].sum())
    known = found.trace[held]
    spent = found.queries[held].clamp_min(1).to(torch.float64).log2().floor()
    last = int(spent.max()) + 1 if len(spent) else 0
    # A sample that stopped earlier keeps the margin that it had reached.
    filled = (
        torch.stack([known[:, : k + 1].nan_to_num(nan=torch.inf).amin(1) for k in range(last)], 1) if last else known
    )
    medians = [float(value) for value in filled.median(0).values] if len(filled) and last else []
    return {
        "held": int(held.sum()),
        "gradients": gradients,
        "vanished": int(found.vanished[held].sum()) / gradients if gradients else None,
        "margins": [round(value, 6) if value < float("inf") else None for value in medians],
    }


def _run(planned: PlannedAttack, task: Task) -> tuple[Any, str]:
    """What the attack returned, and the text of its failure ('' when there is none)."""
    try:
        with threads(1), global_state_kept([]), torch.enable_grad():
            returned = planned.attack.run(task)
        task.notes.update({name: float(value) for name, value in task.notes.items()})
        if returned is not None and getattr(returned, "shape", None) != task.images.shape:
            raise PluginError(
                "it returned something else than one image per sample",
                found=tuple(returned.shape) if hasattr(returned, "shape") else type(returned).__name__,
                expected=tuple(task.images.shape),
                hint="return None: what the oracle was shown is recorded there",
            )
        return returned, ""
    except BudgetError:
        return None, ""  # nothing was left to ask: what was found stands, and what was not is held
    except ServiceError:
        raise
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - a stranger's code; whatever it raises is recorded
        return None, f"attack {planned.name} failed: {told_of(cause)}"


def drawn_targets(random: Random, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """A wrong class per sample, uniformly drawn and kept for all attacks and levels."""
    rows = torch.arange(len(labels), device=labels.device)
    step = random.fork("targets").integers(rows, 0, num_classes - 1)
    return (labels + 1 + step.view(-1)) % num_classes


def _claim(i: int, image: bytes, shard: Shard, originals: list[bytes], targets: torch.Tensor | None) -> Claim:
    return Claim(originals[i], image, int(shard.labels[i]), None if targets is None else int(targets[i]))


def _judge_recorded(
    found: Candidates,
    shard: Shard,
    originals: list[bytes],
    targets: torch.Tensor | None,
    threat: ThreatModel,
    bench: Bench,
) -> tuple[dict[int, WitnessRow], dict[int, str], torch.Tensor]:
    """Witnesses by sample, the reasons where the judge did not confirm what the oracle had seen, and bool `(N,)`: where
    the model that is judged has no answer to it. A static attacker does not notice that.
    """
    which = found.found.nonzero()[:, 0].tolist()
    stored = [pack(found.images[i], threat.grid) for i in which]
    claims = [_claim(i, data, shard, originals, targets) for i, data in zip(which, stored, strict=True)]
    witnesses, refused, unanswered = {}, {}, torch.zeros(len(shard.samples), dtype=torch.bool)
    for i, data, verdict in zip(which, stored, bench.judge.decide(claims, threat), strict=True):
        if verdict.confirmed:
            witnesses[shard.samples[i]] = _witness(shard.samples[i], data, verdict)
        else:
            refused[shard.samples[i]] = verdict.reason
            unanswered[i] = not verdict.valid
    return witnesses, refused, unanswered


def _judge_returned(
    returned: Any,
    witnesses: dict[int, WitnessRow],
    shard: Shard,
    originals: list[bytes],
    targets: torch.Tensor | None,
    threat: ThreatModel,
    bench: Bench,
) -> dict[int, str]:
    """Judge the images that the attack returned; confirmed ones join `witnesses`, the others' reasons come back.

    An image equal to its original claims nothing.
    """
    if returned is None:
        return {}
    returned = torch.as_tensor(returned).detach().cpu()
    returned = as_images(returned) if returned.dtype == torch.uint8 else returned.to(torch.float32)
    moved = (returned != shard.images).flatten(1).any(1).nonzero()[:, 0].tolist()
    off = _off_grid(returned, threat)
    claims = [_claim(i, pack(returned[i], threat.grid), shard, originals, targets) for i in moved]
    rejected = {}
    for i, claim, verdict in zip(moved, claims, bench.judge.decide(claims, threat), strict=True):
        sample = shard.samples[i]
        if off[i] or not verdict.confirmed:
            rejected[sample] = off[i] or verdict.reason
        elif sample not in witnesses or verdict.distance < witnesses[sample].distance:
            witnesses[sample] = _witness(sample, claim.image, verdict)
    return rejected


def _off_grid(images: torch.Tensor, threat: ThreatModel) -> list[str]:
    """Per returned image, why it cannot be stored as it is ('' where it can)."""
    box = ((images >= 0) & (images <= 1)).flatten(1).all(1)
    finite = images.isfinite().flatten(1).all(1)
    scaled = images.double() * 255
    on_grid = ((scaled - scaled.round()).abs() <= 1e-3).flatten(1).all(1)
    return [
        "holds NaN or infinity"
        if not finite[i]
        else "outside the box [0, 1]"
        if not box[i]
        else "off the 8-bit grid"
        if threat.grid == "8bit" and not on_grid[i]
        else ""
        for i in range(len(images))
    ]


def _witness(sample: int, data: bytes, verdict: Verdict) -> WitnessRow:
    return WitnessRow(sample, verdict.distance, verdict.prediction, data, verdict.metrics)


def _result(
    i: int,
    sample: int,
    found: Candidates,
    witnesses: dict[int, WitnessRow],
    refused: dict[int, str],
    invalid: bool,
    failure: str,
) -> ResultRow:
    queries, success = int(found.queries[i]), int(found.queries_to_success[i])
    if sample in witnesses:
        return ResultRow(sample, Outcome.BROKEN, queries, success if success > 0 else None)
    if invalid:
        why = "the model answered NaN or infinity" if bool(found.invalid[i]) else refused[sample]
        return ResultRow(sample, Outcome.INVALID, queries, None, why)
    if failure:
        return ResultRow(sample, Outcome.INVALID, queries, None, failure)
    reason = f"a candidate was not confirmed: {refused[sample]}" if sample in refused else ""
    return ResultRow(sample, Outcome.HELD, queries, None, reason)
