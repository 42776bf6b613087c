"""Attacks of other libraries, run through the oracle: one sample each, in turns, their rows in common batches.

A library's attack is given a torch module whose answers come from the oracle. Each sample has a run of its own, in a
thread that rests whenever it asks; once all rest, their rows are answered in one batch. So rows have an owner, a run
that fails costs its own sample, and a sample's result depends on no other. Exactly one thread runs at a time, with
random generators of its own.
"""

from __future__ import annotations

import contextlib
import io
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from charpy.attached import Attached
from charpy.global_state import global_state_kept
from charpy.interfaces.attack import Task
from charpy.threat import Access

TOGETHER = 64
"""Samples whose runs take turns; the next ones begin when all of these have ended."""

STUBBORN = 100
"""How often a run is told that it is over; one that hears nothing is left resting, and ends with the process."""

Run = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, "torch.Tensor | None", int], torch.Tensor]
"""(module, image `(1, C, H, W)`, label `(1,)`, target `(1,)` or None, seed) -> image `(1, C, H, W)`."""


class Spent(BaseException):
    """Nothing more is answered about this sample: it is broken, out of budget, or has no valid answer."""


@dataclass
class Question:
    """Rows `(M, C, H, W)` that one run waits for; with `slopes`, their gradients may be asked, too."""

    rows: torch.Tensor
    slopes: bool


@dataclass
class Slope:
    """A gradient that one run waits for: of which answer, its first row there, and the weights `(M, K)`."""

    of: Attached
    first: int
    weights: torch.Tensor


@dataclass
class Turn:
    """The run of one sample: its thread, what it waits for, and how it ended.

    Attributes:
        sample: place in the task.
        asks: what it waits for; None when it has ended.
        answer: what it gets when it goes on; `Spent` ends it.
        found: the image that it returned.
        failure: what it raised.
    """

    sample: int
    seed: int
    asks: Question | Slope | None = None
    answer: Any = None
    found: torch.Tensor | None = None
    failure: BaseException | None = None
    ended: bool = False
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _rests: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _generators: tuple[Any, ...] | None = None
    _thread: threading.Thread | None = None

    def begin(self, work: Callable[[], torch.Tensor]) -> None:
        """Run `work` until it asks something or ends."""

        def run() -> None:
            self._go.acquire()
            try:
                self.found = work()
            except Spent:
                pass
            except (Exception, SystemExit) as cause:  # noqa: BLE001 - another library's code costs its own sample
                self.failure = cause
            finally:
                self.ended, self.asks = True, None
                self._rests.release()

        self._thread = threading.Thread(target=run, name=f"sample {self.sample}", daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Let it run until it asks again or ends, with its own random generators."""
        if self._generators is None:
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)  # noqa: NPY002 - what other libraries draw from
            random.seed(self.seed)
        else:
            torch.set_rng_state(self._generators[0])
            np.random.set_state(self._generators[1])  # noqa: NPY002
            random.setstate(self._generators[2])
        self._go.release()
        self._rests.acquire()
        self._generators = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
        if self.ended and self._thread is not None:
            self._thread.join()

    def ask(self, what: Question | Slope) -> Any:
        """Called by the run: rest until `what` is answered."""
        self.asks = what
        self._rests.release()
        self._go.acquire()
        if isinstance(self.answer, Spent):
            raise self.answer
        return self.answer


class _Through(torch.autograd.Function):
    """Scores from the oracle, whose backward pass asks it for their slope."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, turn: Turn) -> torch.Tensor:
        answer, first = turn.ask(Question(images.detach().clone(), slopes=True))
        ctx.turn, ctx.answer, ctx.first = turn, answer, first
        scores: torch.Tensor = answer.scores[first : first + len(images)].cpu().clone()
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.turn.ask(Slope(ctx.answer, ctx.first, grads[0])), None


class OracleModule(torch.nn.Module):
    """What a library attacks instead of a model: logits `(M, K)`, or, where only labels are given, ones and zeros."""

    def __init__(self, turn: Turn, access: Access, classes: int) -> None:
        super().__init__()
        self._turn, self._access, self.classes = turn, access, classes
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # libraries look where parameters lie
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Each row is a query of the sample."""
        images = images.to(torch.float32)
        if self._access is Access.GRADIENTS and torch.is_grad_enabled() and images.requires_grad:
            scores: torch.Tensor = _Through.apply(images, self._turn)  # type: ignore[no-untyped-call]
            return scores
        answer: torch.Tensor = self._turn.ask(Question(images.detach().clone(), slopes=False))
        if answer.ndim == 1:
            return torch.nn.functional.one_hot(answer, self.classes).float()
        return answer


@dataclass(frozen=True)
class Ended:
    """How the runs ended: image `(N, C, H, W)`, bool `(N,)` whether one was returned, and what was raised."""

    images: torch.Tensor
    returned: torch.Tensor
    failures: list[BaseException]


def in_turns(task: Task, run: Run, access: Access, classes: int) -> Ended:
    """Run another library's attack on every sample of `task`, through its oracle."""
    images, returned = task.images.clone(), torch.zeros(len(task.images), dtype=torch.bool)
    failures: list[BaseException] = []
    rows = torch.arange(len(task.images), device=task.images.device)
    seeds = (task.random.fork("seeds").words(rows, 0, 1)[:, 0].to(torch.int64) & 0x7FFFFFFF).tolist()
    with global_state_kept([]), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for start in range(0, len(rows), TOGETHER):
            turns = [Turn(i, seeds[i]) for i in range(start, min(start + TOGETHER, len(rows)))]
            for turn in turns:
                turn.begin(_work(task, run, turn, access, classes))
            try:
                _take_turns(task, turns, access)
            finally:
                _dismiss(turns)
            for turn in turns:
                if turn.failure is not None:
                    failures.append(turn.failure)
                elif turn.found is not None and turn.found.shape == task.images[:1].shape:
                    images[turn.sample] = turn.found[0].to(images).nan_to_num(nan=0.0)
                    returned[turn.sample] = True
    return Ended(images, returned, failures)


def _work(task: Task, run: Run, turn: Turn, access: Access, classes: int) -> Callable[[], torch.Tensor]:
    i = turn.sample
    image, label = task.images[i : i + 1].cpu().clone(), task.labels[i : i + 1].cpu().clone()
    target = None if task.targets is None else task.targets[i : i + 1].cpu().clone()
    return lambda: run(OracleModule(turn, access, classes), image, label, target, turn.seed).detach()


def _take_turns(task: Task, turns: Sequence[Turn], access: Access) -> None:
    live = [turn for turn in turns if bool(task.oracle.active[turn.sample])]
    while live:
        for turn in live:
            turn.go_on()
        live = [turn for turn in live if not turn.ended]
        slopes = [turn for turn in live if isinstance(turn.asks, Slope)]
        _answer_slopes(slopes)
        asked = [turn for turn in live if isinstance(turn.asks, Question)]
        for wanted in (True, False):
            _answer(task, [turn for turn in asked if turn.asks.slopes is wanted], access)  # type: ignore[union-attr]


def _answer_slopes(turns: Sequence[Turn]) -> None:
    """One backward pass for all turns that wait for the same answer's."""
    groups: dict[int, list[Turn]] = {}
    for turn in turns:
        assert isinstance(turn.asks, Slope)
        groups.setdefault(id(turn.asks.of), []).append(turn)
    for group in groups.values():
        asks = [turn.asks for turn in group if isinstance(turn.asks, Slope)]
        of = asks[0].of
        weights = torch.zeros_like(of.scores)
        for ask in asks:
            weights[ask.first : ask.first + len(ask.weights)] = ask.weights.to(weights)
        found = of.slope(weights).cpu()
        for turn, ask in zip(group, asks, strict=True):
            turn.answer = found[ask.first : ask.first + len(ask.weights)].clone()


def _answer(task: Task, turns: Sequence[Turn], access: Access) -> None:
    """One batch for the rows of all turns; a turn of which a row is refused has spent what it had."""
    active = task.oracle.active
    for turn in turns:
        if not bool(active[turn.sample]):
            turn.answer = Spent()
    turns = [turn for turn in turns if bool(active[turn.sample])]
    asks = [turn.asks for turn in turns if isinstance(turn.asks, Question)]
    if not asks:
        return
    device = task.images.device
    counts = [len(ask.rows) for ask in asks]
    rows = torch.cat([ask.rows for ask in asks]).to(device)
    owner = torch.tensor(
        [turn.sample for turn, count in zip(turns, counts, strict=True) for _ in range(count)], device=device
    )
    attached = task.oracle.attached(rows, owner) if asks[0].slopes else None
    if attached is not None:
        answers = attached.scores
    else:
        answers = task.oracle.labels(rows, owner) if access is Access.LABELS else task.oracle.scores(rows, owner)
    refused = (answers == -1) if answers.ndim == 1 else answers.isnan().any(1)
    first = 0
    for turn, count in zip(turns, counts, strict=True):
        part = slice(first, first + count)
        if bool(refused[part].any()):
            turn.answer = Spent()
        else:
            turn.answer = (attached, first) if attached is not None else answers[part].cpu()
        first += count


def _dismiss(turns: Sequence[Turn]) -> None:
    """End every run that still rests."""
    for turn in turns:
        for _ in range(STUBBORN):
            if turn.ended:
                break
            turn.answer = Spent()
            turn.go_on()
