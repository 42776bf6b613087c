"""The smallest distance that each side finds in one norm, at equal gradient calls."""

from __future__ import annotations

import math
import statistics
from functools import partial

import torch
from contest import Case, Measured, assess_at
from page import Page, failures

from charpy.interfaces.attack import Step
from charpy.threat import Grid, Norm


def _attacks(norm: Norm, calls: int, classes: int) -> list[Step]:
    """charpy's minimum-norm attacks for a norm, set up to spend about `calls` gradients an image.

    Those that search a constant (cw, ead, lbfgs) divide the budget themselves.
    """
    by_norm: dict[Norm, list[Step]] = {
        Norm.L0: [Step("sigma_zero", {"steps": calls}), Step("jsma", {}), Step("cw", {})],
        Norm.L1: [Step("alma", {"steps": calls}), Step("ead", {})],
        Norm.L2: [
            Step("alma", {"steps": calls}),
            Step("ddn", {"steps": calls}),
            Step("cw", {}),
            Step("lbfgs", {}),
            Step("newtonfool", {}),
        ],
        Norm.LINF: [Step("cw", {})],
    }
    # A step of fab costs a gradient for each class and one of fab_t two; a tenth is left for the search at the end.
    rounds = [max(1, round(0.9 * calls / classes)), max(1, round(0.9 * calls / 2 / (classes - 1)))]
    boundary = [Step(kind, {"steps": steps}) for kind, steps in zip(("fab", "fab_t"), rounds, strict=True)]
    boundary = [] if norm is Norm.L0 else boundary
    linear = [Step("deepfool", {})] if norm in {Norm.L2, Norm.LINF} else []
    return [Step("fmn", {"steps": calls}), *by_norm[norm], *boundary, *linear]


def minimal_rows(page: Page, case: Case, norm: Norm, calls: int) -> tuple[object, ...]:
    """Writes the rows of one norm and budget; the cells of its summary."""
    best: dict[str, tuple[float, str]] = {}

    def row(attack: str, side: str, runs: list[Measured], spent: float) -> None:
        median, cells = _cells(runs, spent)
        page.row(norm, calls, attack, side, *cells)
        camp = "charpy" if side == "charpy" else "peer"
        if spent <= 1.1 * calls and median < best.get(camp, (math.inf, ""))[0]:
            best[camp] = (median, attack if side == "charpy" else f"{attack} ({side})")

    for rival in page.peers.minimal(norm, calls, case.classes):
        runs = page.theirs(case, rival, norm, None)
        row(rival.name, rival.peer, runs, statistics.mean(run.spent for run in runs) / len(case.labels))
    for step in _attacks(norm, calls, case.classes):
        runs = page.ours(partial(_run, case, norm, step, calls))
        if runs:
            row(step.kind, "charpy", runs, statistics.mean(run.spent for run in runs) / len(case.labels))
    cells = [f"{best[camp][0]:.4g} {best[camp][1]}" if camp in best else "-" for camp in ("charpy", "peer")]
    ratio = f"{best['charpy'][0] / best['peer'][0]:.3f}" if len(best) == 2 else "-"
    return norm, calls, *cells, ratio


def _run(case: Case, norm: Norm, step: Step, calls: int, seed: int) -> Measured:
    return assess_at(case, norm, _largest(case, norm), [step], Grid.NONE, queries=calls, seed=seed)


def _cells(runs: list[Measured], spent: float) -> tuple[float, tuple[str, ...]]:
    if (failed := failures(runs)) and not any(run.broken for run in runs):
        return math.inf, ("-",) * 5 + (failed,)
    found = torch.stack([run.distances for run in runs])
    median = statistics.mean(float(row.quantile(0.5, interpolation="lower")) for row in found)
    reached = found[found.isfinite()]
    mean = f"{float(reached.mean()):.4g}" if len(reached) else "-"
    seconds = statistics.median(run.seconds for run in runs)
    share = f"{len(reached) / found.numel():.0%}"
    return median, (f"{median:.4g}", mean, share, f"{spent:,.0f}", f"{seconds:.2f}", failed)


def _largest(case: Case, norm: Norm) -> float:
    """The diameter of the image box."""
    values, pixels = case.images[0].numel(), case.images[0, 0].numel()
    return {Norm.L0: float(pixels), Norm.L1: float(values), Norm.L2: math.sqrt(values), Norm.LINF: 1.0}[norm]
