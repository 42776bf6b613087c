"""The query engine: forward-only queries on the fastest way to compute a model that agrees with it.

A model offers other ways to compute itself (`Model.forwards`: its ONNX export, another memory layout). Each is held
against the model on a probe batch and timed; the choice and the times are kept for the report. The judge never uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from charpy.batches import best_of, fitting, fixed_batch, invariant, slow
from charpy.errors import ModelError
from charpy.global_state import default_dtype_kept
from charpy.interfaces.model import Model, Output
from charpy.memory import out_of_memory, release
from charpy.pixels import as_images
from charpy.threads import threads

if TYPE_CHECKING:
    from charpy.interfaces.model import Forward

SIZES = (0.5, 1, 2, 4)
"""Batch sizes that are tried, in fixed ones."""

AGREEMENT = 1e-4
"""Largest relative difference of scores at which another way counts as the same model."""

SAME_GRADIENT = 0.01
"""Largest relative difference of a gradient at which it counts as the same."""

PREFERENCE = 1.3
"""An earlier way is kept unless a later one is this much faster: equal machines then make equal choices."""

_MEASURE_SECONDS = 1.0


@dataclass(frozen=True)
class Way:
    """One way to compute the model: its best batch size, seconds per row there, largest score difference."""

    name: str
    forward: Forward
    batch: int
    seconds_per_row: float
    invariant: bool
    gap: float = 0.0


@dataclass
class QueryEngine:
    """Answers rows in micro-batches.

    Attributes:
        chosen: the way in use.
        bare: the model as given, at its own best batch size: what every overhead is measured against.
        gradient: the way that gradients take, timed forward and backward; None where nobody asked for it.
        bare_gradient: the same by the model as given.
        threads: torch threads that the model computes with; the code around it runs with one.
        num_classes: K, as the model answered; 0 where it gives labels only.
        notes: why another way was not taken; that memory ran out.
        most: rows that fit the memory.
    """

    model: Model
    output: Output
    chosen: Way
    bare: Way
    gradient: Way | None = None
    bare_gradient: Way | None = None
    threads: int = 1
    num_classes: int = 2
    notes: list[str] = field(default_factory=list)
    most: int = 2**31

    @classmethod
    def measure(
        cls,
        model: Model,
        output: Output,
        probe: torch.Tensor,
        *,
        batch_size: int | None = None,
        keep: str | None = None,
        gradients: bool = False,
        keep_gradient: str | None = None,
    ) -> QueryEngine:
        """Choose by measurement on `probe` `(N, C, H, W)`; a given `batch_size` is kept where it cannot matter.

        `keep` names the way that a run began with, `keep_gradient` that of its gradients: they are taken again if they
        are still there, so that a resumed run does not turn on how fast the machine is today. With `gradients`, the
        ways to compute them are measured too.
        """
        images = as_images(probe).to(model.device)
        fixed = fixed_batch(images)
        most = int(SIZES[-1] * fixed)
        rows = images.repeat(-(-most // len(images)), 1, 1, 1)[:most]
        notes: list[str] = []
        fits = fitting(model.predict, rows[:fixed])
        if fits < fixed:
            notes.append(f"memory ran out at {2 * fits} rows: batches of {fits}")
        if fits < fixed or slow(model.predict, rows[:fixed], _MEASURE_SECONDS):
            rows = rows[:fits]  # tuning would cost more than it could gain
        as_given = _time("as given", model.predict, rows)
        chosen = _choose(model, model.forwards(), rows, output, as_given, keep, notes)
        batch = (batch_size or chosen.batch) if chosen.invariant else fixed
        bare = replace(as_given, batch=as_given.batch if as_given.invariant else fixed)
        if chosen is as_given:
            chosen = bare
        if not chosen.invariant and len(rows) > fixed:
            notes.append(f"a row's last bits depend on its place in the batch ({chosen.name})")
        with torch.no_grad():
            classes = 0 if output is Output.LABELS else model.predict(rows[:1].clone()).shape[1]
        kept = replace(chosen, batch=batch)
        bare = kept if chosen is bare else bare
        gradient = own = None
        if gradients:
            own = _time_gradient("as given", model.predict, rows, output)
            gradient = _choose(model, model.differentiable(), rows, output, own, keep_gradient, notes, backward=True)
            tuned = (batch_size or gradient.batch) if gradient.invariant else fixed
            gradient = replace(gradient, batch=tuned)
            own = replace(own, batch=tuned if own.invariant else fixed)
        most = fits if fits < fixed else 2**31
        return cls(model, output, kept, bare, gradient, own, torch.get_num_threads(), classes, notes, most)

    @property
    def slack(self) -> float:
        """By how much a row must be misclassified here for the model as given to misclassify it too."""
        return 4 * max(self.chosen.gap, 0.0 if self.gradient is None else self.gradient.gap)

    @property
    def shortcut(self) -> bool:
        """Whether anything but the model as given answers."""
        return self.chosen.name != self.bare.name or (
            self.gradient is not None and self.gradient.name != self.bare.name
        )

    def answers(self, candidates: torch.Tensor) -> torch.Tensor:
        """What the model says of `candidates` `(M, C, H, W)`, uint8 pixels or float images, by the chosen way.

        `(M, K)` float32 scores (log-probabilities where the model gives probabilities), or `(M,)` labels.
        """
        return self._ask(self.chosen, candidates)

    def as_given(self, candidates: torch.Tensor) -> torch.Tensor:
        """As `answers`, by the model as given."""
        return self._ask(self.bare, candidates)

    def without_shortcut(self) -> QueryEngine:
        """This engine on the model as given."""
        return replace(self, chosen=self.bare, gradient=self.bare_gradient)

    def bare_seconds(self, rows: int, gradients: int) -> float:
        """What `rows` queries, `gradients` of them with a gradient, cost by the model as given in full batches."""
        backward = self.bare_gradient or self.bare
        return (rows - gradients) * self.bare.seconds_per_row + gradients * backward.seconds_per_row

    @torch.no_grad()
    def _ask(self, way: Way, candidates: torch.Tensor) -> torch.Tensor:
        device, size = self.model.device, way.batch
        pieces: list[torch.Tensor] = []

        def ask(rows: torch.Tensor) -> None:
            images = as_images(rows.to(device))
            pieces.append(way.forward(images if images is not rows else images.clone()))

        with threads(self.threads), default_dtype_kept():
            for piece in torch.split(candidates, min(size, self.most)):
                self.in_halves(ask, piece)
        return as_scores(torch.cat(pieces), self.output)

    def in_halves(self, work: Callable[..., None], *rows: torch.Tensor) -> None:
        """`work(*rows)`; where memory runs out, on one half of the rows `(M, ...)` after the other. It is noted."""
        try:
            work(*rows)
            return
        except Exception as cause:
            if len(rows[0]) < 2 or not out_of_memory(cause):
                raise
        release()
        half = len(rows[0]) // 2
        if half < self.most:
            self.most = half
            self.notes.append(f"memory ran out at {len(rows[0])} rows: batches of {half}")
        self.in_halves(work, *(part[:half] for part in rows))
        self.in_halves(work, *(part[half:] for part in rows))


def _choose(
    model: Model,
    builders: Mapping[str, Callable[[], Forward]],
    rows: torch.Tensor,
    output: Output,
    as_given: Way,
    keep: str | None,
    notes: list[str],
    *,
    backward: bool = False,
) -> Way:
    """The first of the ways, `as_given` last, that is nearly as fast as the fastest; or the one named `keep`."""
    ways = []
    for name, build in builders.items():
        try:
            forward = build()
            probe = _disturbed(rows[: fixed_batch(rows)])
            gap = _gap(model.predict, forward, probe, output)
            if backward:
                _same_gradient(model.predict, forward, probe, output)
            way = _time_gradient(name, forward, rows, output) if backward else _time(name, forward, rows)
            ways.append(replace(way, gap=gap))
        except Exception as cause:  # noqa: BLE001 - any failure of an optional fast path only costs speed
            notes.append(f"{name} not used: {str(cause).splitlines()[0] if str(cause) else type(cause).__name__}")
    ways.append(as_given)
    fastest = min(way.seconds_per_row for way in ways)
    quick = [way for way in ways if way.seconds_per_row <= PREFERENCE * fastest]
    return next((way for way in ways if way.name == keep), quick[0])


def as_scores(answers: torch.Tensor, output: Output) -> torch.Tensor:
    """float32 scores on the logit scale: probabilities become their logarithm; labels stay int64."""
    if output is Output.LABELS:
        return answers.to(torch.int64)
    scores = answers.to(torch.float32)
    return scores.clamp_min(1e-30).log() if output is Output.PROBABILITIES else scores


def _gap(reference: Forward, other: Forward, images: torch.Tensor, output: Output) -> float:
    """Largest difference of scores; raises where it is too large to be the same model."""
    with torch.no_grad():
        expected, found = reference(images.clone()), other(images.clone())
    if found.shape != expected.shape:
        raise ModelError("gives another shape", found=tuple(found.shape), expected=tuple(expected.shape))
    gap = float((as_scores(expected, output).float() - as_scores(found, output).float()).abs().max())
    scale = 0.0 if output is Output.LABELS else float(expected.float().abs().max().clamp_min(1.0))
    if not gap <= AGREEMENT * scale:
        raise ModelError(f"disagrees with the model on the probe batch by {gap:.2g}")
    return gap


@torch.no_grad()
def _time(name: str, forward: Forward, rows: torch.Tensor) -> Way:
    """The best time per row over the batch sizes, within about `_MEASURE_SECONDS`; and whether bits are stable."""
    started = time.perf_counter()
    fixed = fixed_batch(rows)
    best: tuple[float, int] = (float("inf"), fixed)
    answers: list[torch.Tensor] = []
    for size in (max(1, int(share * fixed)) for share in sorted(SIZES, key=lambda share: abs(share - 1))):
        try:
            seconds, answer = best_of(forward, rows, size, started + 2 * _MEASURE_SECONDS)
        except Exception as cause:
            if answers and out_of_memory(cause):
                release()
                continue
            raise
        answers.append(answer)
        if seconds < 0.95 * best[0]:
            best = (seconds, size)
        if time.perf_counter() - started > _MEASURE_SECONDS:
            break
    return Way(name, forward, best[1], best[0], invariant(forward, rows, answers))


def _slope(forward: Forward, images: torch.Tensor, output: Output) -> torch.Tensor:
    """The gradient `(N, C, H, W)` of the sum of squared scores."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(True)
        answers = as_scores(forward(leaf), output)
        if not answers.requires_grad:
            raise ModelError(
                "the model's scores have ceased to be differentiable",
                found="an answer without a gradient, after one with",
                expected="the same kind of answer each time",
                hint="declare its access as SCORES, so that attacks without gradients assess it",
            )
        slope: torch.Tensor = torch.autograd.grad(answers.square().sum(), leaf, materialize_grads=True)[0]
        return slope


def _same_gradient(reference: Forward, other: Forward, images: torch.Tensor, output: Output) -> None:
    """Raise where the gradients point elsewhere; a few rows may differ, where a kink of the model lies between."""
    expected, found = (_slope(forward, images, output).flatten(1) for forward in (reference, other))
    off = (expected - found).norm(dim=1) > SAME_GRADIENT * expected.norm(dim=1)
    if int(off.sum()) > len(images) // 10:
        raise ModelError(f"has another gradient than the model on {int(off.sum())} of {len(images)} probe images")


def _time_gradient(name: str, forward: Forward, rows: torch.Tensor, output: Output) -> Way:
    """As `_time`, forward and backward together."""
    return replace(_time(name, lambda images: _slope(forward, images, output), rows), forward=forward)


def _disturbed(images: torch.Tensor) -> torch.Tensor:
    """`images`, every second one with half of its values drawn anew: attacks ask about more than clean images."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    drawn = torch.rand(images.shape, generator=generator).to(images.device) < 0.5
    drawn[::2] = False
    return torch.where(drawn, noise, images)
