"""Every witness of a model judged again, from its stored bytes and with a fresh model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

from charpy.errors import CharpyError
from charpy.judge import NO_ANSWER, NOT_THE_TARGET, RIGHT, Claim, Judge, Verdict
from charpy.random import Random, sample_keys
from charpy.runfile import RunFile
from charpy.runfile.audit import StoredWitness
from charpy.specs import RunSpec
from charpy.threat import DISTANCE_TOLERANCE, Goal, Norm, ThreatModel
from charpy.unit import drawn_targets
from charpy.verification.document import Tally

BATCH = 256
"""Witnesses that are judged at once."""

METRIC_TOLERANCE = 1e-4
"""Of a metric, relative to its size, at least 1: rounding in another batch, or on another machine."""

ANSWERS = frozenset({NO_ANSWER, RIGHT, NOT_THE_TARGET})
"""What the judge says of the model's answer; anything else it says is of the image alone."""


class WithoutModel(Judge):
    """Judges what needs no model: the box, the ball, the distance, the metrics."""

    def __init__(self, judge_shape: tuple[int, int, int], metrics: dict[str, Any]) -> None:
        self.shape, self.metrics = judge_shape, metrics

    def classify(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Nobody answers."""
        return torch.full((len(images),), -1), torch.ones(len(images), dtype=torch.bool)


class Rejudge:
    """Judges the witnesses of one model again.

    Args:
        judge: with a fresh model, or `WithoutModel`.
        classes: of the model, for the targets of a targeted threat.
        random: the model's answers are left to chance, so one that differs shows nothing.
        skipped: metrics that cannot be measured here.
    """

    def __init__(
        self, spec: RunSpec, judge: Judge, classes: int, tally: Tally, *, random: bool, skipped: Collection[str]
    ) -> None:
        self.spec, self.judge, self.classes, self.tally = spec, judge, classes, tally
        self.random, self.skipped = random, frozenset(skipped)
        self.asked = not isinstance(judge, WithoutModel)

    def all(self, run: RunFile, model: int, tick: Callable[[int], None]) -> None:
        """Every witness, level by level, in full batches; `tick` is told how many are done."""
        units = run.audit().units(model)
        order = sorted(units, key=lambda unit: (unit[1].norm, unit[1].th, unit[0]))
        done = 0
        for (norm, th), group in itertools.groupby(order, key=lambda unit: (unit[1].norm, unit[1].th)):
            spec = next((threat for threat in self.spec.threats if threat.norm == norm), None)
            numbers = [unit[0] for unit in group]
            if spec is None:
                self.tally.wrong(f"units ({', '.join(map(str, numbers[:5]))})", f"norm {norm}", "a norm of the spec")
                continue
            threat = ThreatModel.at_level(Norm(norm), th, goal=spec.goal, grid=self.spec.grid)
            rows = (row for number in numbers for row in run.audit().witnesses_of(number))
            for batch in _batches(rows):
                self._batch(batch, threat)
                done += len(batch)
                tick(done)

    def _batch(self, batch: Sequence[StoredWitness], threat: ThreatModel) -> None:
        known = [row for row in batch if row.original is not None and row.id is not None]
        for row in batch:
            if row.original is None or row.id is None:
                self.tally.wrong(row.record, "no original or no sample", "both, to judge it by")
        if not known:
            return
        claims = self._claims(known, threat)
        for row, claim, verdict in zip(known, claims, self._decided(claims, threat), strict=True):
            if isinstance(verdict, str):
                self.tally.wrong(row.record, verdict, "an image")
                continue
            answer, image = self._answer_differs(row, verdict), self._image_differs(row, verdict)
            if answer:  # near the boundary a row's neighbours may decide
                answer = self._answer_differs(row, self.judge.decide([claim], threat)[0])
            if answer and not self.random:
                self.tally.wrong(row.record, *answer)
            elif image:
                self.tally.wrong(row.record, *image)
            elif answer:
                self.tally.unsure()
            else:
                self.tally.right()

    def _claims(self, rows: Sequence[StoredWitness], threat: ThreatModel) -> list[Claim]:
        labels = [row.label if row.label is not None else -1 for row in rows]
        targets: list[int] | list[None] = [None] * len(rows)
        if threat.goal is Goal.TARGETED:
            random = Random(self.spec.seed, sample_keys([row.id or "" for row in rows]))
            targets = drawn_targets(random, torch.tensor(labels), self.classes).tolist()
        return [
            Claim(row.original or b"", row.image, label, target)
            for row, label, target in zip(rows, labels, targets, strict=True)
        ]

    def _decided(self, claims: Sequence[Claim], threat: ThreatModel) -> Sequence[Verdict | str]:
        """Verdicts; of an image that cannot be read, why."""
        try:
            return self.judge.decide(claims, threat)
        except CharpyError as cause:
            if len(claims) == 1:
                return [f"{cause.what}: {cause.found}"]
        return [verdict for claim in claims for verdict in self._decided([claim], threat)]

    def _answer_differs(self, row: StoredWitness, verdict: Verdict) -> tuple[str, str] | None:
        """What the model says and what the file says, where they differ."""
        if not self.asked or verdict.reason not in ("", *ANSWERS):
            return None
        if verdict.reason:
            return f"not confirmed: {verdict.reason}", "a witness"
        if verdict.prediction != row.prediction:
            return f"class {verdict.prediction}", f"class {row.prediction}, as stored"
        return None

    def _image_differs(self, row: StoredWitness, verdict: Verdict) -> tuple[str, str] | None:
        """What the image shows and what the file says, whatever the model answers."""
        if verdict.reason not in ("", *ANSWERS):
            return f"not confirmed: {verdict.reason}", "a witness"
        if not math.isclose(verdict.distance, row.distance, rel_tol=1e-9, abs_tol=DISTANCE_TOLERANCE):
            return f"distance {verdict.distance:.9g}", f"distance {row.distance:.9g}, as stored"
        return self._other_metrics(row.metrics, verdict.metrics)

    def _other_metrics(self, stored: Mapping[str, Any], found: Mapping[str, float]) -> tuple[str, str] | None:
        if (stored.keys() ^ found.keys()) - self.skipped:
            return f"metrics {', '.join(sorted(found))}", f"{', '.join(sorted(stored))}, as stored"
        for name, value in found.items():
            if not _same(value, stored[name]):
                return f"{name} {value:.9g}", f"{name} {stored[name]}, as stored"
        return None


def _same(found: float, stored: Any) -> bool:
    if not isinstance(stored, int | float):
        return False
    if math.isnan(found) or math.isnan(stored):
        return math.isnan(found) and math.isnan(stored)
    return math.isclose(found, stored, rel_tol=METRIC_TOLERANCE, abs_tol=METRIC_TOLERANCE)


def _batches(rows: Iterator[StoredWitness]) -> Iterator[list[StoredWitness]]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch
