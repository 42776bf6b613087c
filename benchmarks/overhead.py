"""What surrounds the model: an attack's wall time over that of the same rows through the bare module."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from contest import Case, Measured, MissingError, assess_at, measure_peer
from peers import Peers, Rival

from charpy.interfaces.attack import Step
from charpy.threat import Grid, Norm

RADIUS = 1e-6
"""Linf: too small to break anything, so that no side ends early."""

OVERHEAD_HEAD = "attack | side | rows an image | wall s | bare s | overhead | charpy / this side"


@dataclass
class Turns:
    """One side's times: seconds of its turns, and of the bare module's turns beside them."""

    side: str
    run: Callable[[], Measured]
    seconds: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    rows: int = 0


def overhead_rows(
    case: Case, peers: Peers, seed: int, repeats: int, steps: int, queries: int, missing: set[str]
) -> Iterator[tuple[object, ...]]:
    """The cells of the table, attack by attack; kinds that are not there are added to `missing`."""
    attacks = [
        (Step("pgd", {"steps": steps, "step": 2.5 / steps}), peers.pgd(RADIUS, steps), True),
        (Step("apgd_ce", {"steps": steps, "restarts": 1}), peers.apgd(RADIUS, steps, "ce"), True),
        (Step("square", {}), peers.square(RADIUS, queries), False),
    ]
    for step, rivals, backward in attacks:
        sides = [Turns(rival.peer, _theirs(case, rival, seed)) for rival in rivals if "rescaled" not in rival.name]
        sides.append(Turns("charpy", _ours(case, step, queries if step.kind == "square" else None, seed)))
        for turn in range(repeats + 1):
            for side in list(sides):
                try:
                    _take(case, side, backward, warm=turn == 0)
                except MissingError as cause:
                    missing.add(f"{side.side}'s {cause}")
                    sides.remove(side)
        yield from _cells(step.kind, sides, len(case.labels))


def _cells(kind: str, sides: list[Turns], count: int) -> Iterator[tuple[object, ...]]:
    own = next((statistics.median(side.seconds) for side in sides if side.side == "charpy"), None)
    for side in sides:
        seconds, bare = statistics.median(side.seconds), statistics.median(side.bare)
        ratio = "-" if own is None else f"{own / seconds:.2f}"
        rows = f"{side.rows / count:,.1f}"
        yield kind, side.side, rows, f"{seconds:.2f}", f"{bare:.2f}", f"{seconds / bare:.3f}", ratio


def _take(case: Case, side: Turns, backward: bool, *, warm: bool) -> None:
    """One turn of a side and one of the bare module on as many rows; a warming turn is not kept."""
    done = side.run()
    side.rows = done.rows
    gradients = done.rows if done.gradients < 0 and backward else max(0, done.gradients)
    bare = _bare(case, gradients, backward=True) + _bare(case, done.rows - gradients, backward=False)
    if not warm:
        side.seconds.append(done.attack_seconds)
        side.bare.append(bare)


def _bare(case: Case, rows: int, *, backward: bool) -> float:
    """Seconds of `rows` rows through the module as it is, in batches of all images."""
    began = time.perf_counter()
    left = rows
    while left > 0:
        images = case.images[:left].clone().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            scores = case.module(images)
            if backward:
                torch.autograd.grad(scores.gather(1, case.labels[:left, None]).sum(), images)
        left -= len(images)
    return time.perf_counter() - began


def _theirs(case: Case, rival: Rival, seed: int) -> Callable[[], Measured]:
    def run() -> Measured:
        done = measure_peer(case, rival, Norm.LINF, RADIUS, seed)
        if done.notes:
            raise MissingError(f"{rival.name} ({done.notes[0]})")
        return done

    return run


def _ours(case: Case, step: Step, queries: int | None, seed: int) -> Callable[[], Measured]:
    budget = {} if queries is None else {"queries": queries}
    return lambda: assess_at(case, Norm.LINF, RADIUS, [step], Grid.NONE, seed=seed, **budget)
