"""The answers of one condition as arrays: never without the participants who gave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.errors import SpecError
from charpy_plugins.study.analysis.document import Measure
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import Responses

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Table:
    """One measure of one condition, `(..., P, G)`: participants by originals.

    Attributes:
        total: sum of the answers' values (1 for correct, or the confidence); 0 where there is none.
        count: how many answers.
    """

    total: Array
    count: Array

    def participants(self) -> Array:
        """`(..., P)` the mean of each participant."""
        means: Array = self.total.sum(-1) / self.count.sum(-1)
        return means

    def originals(self) -> Array:
        """`(..., G)` the mean of each original, over all its answers; NaN without one."""
        count = self.count.sum(-2)
        return np.where(count > 0, self.total.sum(-2) / np.where(count > 0, count, 1), np.nan)


class Trials(NamedTuple):
    """N answers of P participants to images of one condition.

    Attributes:
        participants: ids, P of them.
        originals: ids, G of them: of all conditions.
        participant: `(N,)` who answered, index into `participants`.
        original: `(N,)` index into `originals`.
        stimulus: `(N,)` ids.
        truth, label: `(N,)` classes.
        confidence: `(N,)` 1 to 5.
        seconds: `(N,)`.
    """

    participants: tuple[str, ...]
    originals: tuple[str, ...]
    participant: Indices
    original: Indices
    stimulus: tuple[str, ...]
    truth: Indices
    label: Indices
    confidence: Indices
    seconds: Array

    def values(self, measure: Measure) -> Array:
        """`(N,)` 1 for a correct answer and 0 for another, or the confidence."""
        return (self.truth == self.label).astype(float) if measure == "accuracy" else self.confidence.astype(float)

    def table(self, measure: Measure) -> Table:
        """`(P, G)` participants by originals."""
        total = np.zeros((len(self.participants), len(self.originals)))
        count = np.zeros_like(total)
        np.add.at(total, (self.participant, self.original), self.values(measure))
        np.add.at(count, (self.participant, self.original), 1)
        return Table(total, count)

    def means(self, measure: Measure) -> Array:
        """`(P,)` the mean of each participant."""
        return self.table(measure).participants()


def by_condition(
    document: StudyDocument, responses: Responses, chosen: Collection[str], unit: str = "participants"
) -> Mapping[str, Trials]:
    """The answers to images (no attention checks) of the chosen participants, by condition.

    Raises:
        SpecError: `unit` is not `participants`; see `refuse_pooling`.
    """
    refuse_pooling(unit)
    originals = tuple(dict.fromkeys(stimulus.original for stimulus in document.stimuli))
    column = {original: at for at, original in enumerate(originals)}
    of = {stimulus.id: stimulus for stimulus in document.stimuli}
    people: dict[str, dict[str, int]] = {condition.name: {} for condition in document.conditions}
    for one in responses.participants:
        if one.id in chosen:
            people[one.condition][one.id] = len(people[one.condition])
    rows: dict[str, list[tuple[int, int, str, int, int, int, float]]] = {name: [] for name in people}
    for answer in responses.answers:
        if answer.check or answer.participant not in chosen:
            continue
        shown = of[answer.stimulus]
        row = people[shown.condition][answer.participant]
        known = (row, column[shown.original], shown.id, shown.label, answer.label, answer.confidence, answer.seconds)
        rows[shown.condition].append(known)
    return {name: _trials(tuple(people[name]), originals, rows[name]) for name in people}


def refuse_pooling(unit: str) -> None:
    """Answers of one person are alike, so to count each as independent makes differences out of nothing.

    Raises:
        SpecError: another unit than `participants`.
    """
    if unit == "participants":
        return
    raise SpecError(
        "answers cannot be pooled as if they were independent",
        where="unit",
        found=unit,
        expected="participants",
        hint="a test on pooled answers finds differences that are not there in far more than 5 % of studies "
        "(benchmarks/results/study_errors.md); the tests here average over participants, or model them",
    )


def _trials(people: tuple[str, ...], originals: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Trials:
    participant, original, stimulus, truth, label, confidence, seconds = zip(*rows, strict=True) if rows else ((),) * 7
    whole = [np.asarray(column, dtype=np.intp) for column in (participant, original, truth, label, confidence)]
    return Trials(
        people, originals, whole[0], whole[1], stimulus, whole[2], whole[3], whole[4], np.asarray(seconds, dtype=float)
    )
