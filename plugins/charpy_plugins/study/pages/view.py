"""What the page of an analysis shows, ready for its template."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

from charpy_plugins.study.analysis.document import ComparisonPart, ConditionPart, StudyAnalysis, VotesPart
from charpy_plugins.study.document import Kind, Stimulus, StudyDocument
from charpy_plugins.study.pages.figures import disagreement
from charpy_plugins.study.studyfile import Study

LARGE = 96
"""Images with a longer side than this are shown in a third of the number."""

VOTED = 4
"""Labels of an image whose votes are shown."""

CLASSES = 25
"""A confusion matrix of more classes than this is left to answers.csv."""


class Vote(NamedTuple):
    """Votes for one label; `role` says whether it is the true class, or what the model says."""

    label: str
    votes: int
    share: float
    role: str


class Card(NamedTuple):
    """An image with what people said of it, and its original where it is a changed one."""

    stimulus: Stimulus
    image: str
    original: str
    part: VotesPart
    votes: tuple[Vote, ...]
    others: int
    said_of_original: str


class Gallery(NamedTuple):
    """The images of a condition that were labelled correctly least often."""

    condition: ConditionPart
    changed: bool
    cards: tuple[Card, ...]


class Matrix(NamedTuple):
    """Answers of a condition by true class and chosen label; `rows`: label, answers, and `(count, share)` each."""

    condition: ConditionPart
    rows: tuple[tuple[str, int, tuple[tuple[int, float], ...]], ...]


class Measured(NamedTuple):
    """All comparisons by one measure."""

    measure: str
    parts: tuple[ComparisonPart, ...]
    differing: tuple[tuple[ComparisonPart, str], ...]


def measured(analysis: StudyAnalysis) -> list[Measured]:
    """Accuracy, then confidence; empty of a study with one condition."""
    found = []
    for measure in dict.fromkeys(part.measure for part in analysis.comparisons):
        parts = tuple(part for part in analysis.comparisons if part.measure == measure)
        differing = tuple((part, said) for part in parts if (said := disagreement(part)))
        found.append(Measured(measure, parts, differing))
    return found


def galleries(study: Study, analysis: StudyAnalysis, limit: int) -> list[Gallery]:
    """At most `limit` images of each condition with answers; a third of it where they are large."""
    document = study.document
    if max(document.source.shape[1:]) > LARGE:
        limit = -(-limit // 3)
    stimuli = {stimulus.id: stimulus for stimulus in document.stimuli}
    votes = {part.stimulus: part for condition in analysis.conditions for part in condition.votes}
    benign_names = [condition.name for condition in document.conditions if condition.kind is Kind.BENIGN]
    benign = {stimulus.original: stimulus for name in benign_names for stimulus in document.of(name)}
    found = []
    for condition in analysis.conditions:
        changed = condition.name not in benign_names
        seen = [part for part in condition.votes if part.answers]
        seen.sort(key=lambda part: (part.correct / part.answers, -part.answers, part.stimulus))
        cards = []
        for part in seen[:limit]:
            stimulus = stimuli[part.stimulus]
            original = benign.get(stimulus.original) if changed else None
            cards.append(_card(study, stimulus, part, original, votes))
        if cards:
            found.append(Gallery(condition, changed, tuple(cards)))
    return found


def _card(
    study: Study, stimulus: Stimulus, part: VotesPart, original: Stimulus | None, votes: dict[str, VotesPart]
) -> Card:
    document = study.document
    order = sorted(range(len(part.votes)), key=lambda label: (-part.votes[label], label))
    shown = [label for label in order if part.votes[label]][:VOTED]
    counts = [(label, part.votes[label]) for label in shown]
    rows = tuple(
        Vote(document.labels[label], count, count / part.answers, _role(label, stimulus, document))
        for label, count in counts
    )
    others = part.answers - sum(row.votes for row in rows)
    said = ""
    if original is not None and original.id in votes:
        own = votes[original.id]
        said = document.labels[own.majority] if own.majority is not None else ""
    return Card(
        stimulus,
        _uri(study.images[stimulus.id, 1]),
        "" if original is None else _uri(study.images[original.id, 1]),
        part,
        rows,
        others,
        said,
    )


def _role(label: int, stimulus: Stimulus, document: StudyDocument) -> str:
    if label == stimulus.label:
        return "true class"
    return "the model's answer" if label == stimulus.prediction and label < len(document.labels) else ""


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def matrices(analysis: StudyAnalysis) -> list[Matrix]:
    """Of each condition with answers; none where there are more than `CLASSES`."""
    if len(analysis.labels) > CLASSES:
        return []
    return [Matrix(part, _matrix(analysis.labels, part.confusion)) for part in analysis.conditions if part.answers]


def _matrix(
    labels: Sequence[str], confusion: Sequence[Sequence[int]]
) -> tuple[tuple[str, int, tuple[tuple[int, float], ...]], ...]:
    rows = []
    for label, counts in zip(labels, confusion, strict=True):
        total = sum(counts)
        rows.append((label, total, tuple((count, count / total if total else 0.0) for count in counts)))
    return tuple(row for row in rows if row[1])
