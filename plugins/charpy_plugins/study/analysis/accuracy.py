"""One condition: accuracy, majority vote, confidence, times, confusion, votes and agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charpy.analysis.intervals import share
from charpy_plugins.study.analysis.agreement import agreement
from charpy_plugins.study.analysis.document import ConditionPart, MajorityPart, VotesPart
from charpy_plugins.study.analysis.intervals import bootstrap_figure, mean_figure, median_figure
from charpy_plugins.study.analysis.trials import Trials
from charpy_plugins.study.document import Condition, StudyDocument


def condition_part(
    document: StudyDocument, condition: Condition, trials: Trials, draws: int, seed: int
) -> ConditionPart:
    """All figures of one condition."""
    classes = len(document.labels)
    votes = votes_of(document, condition.name, trials)
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (trials.truth, trials.label), 1)
    people = range(len(trials.participants))
    medians = np.array([np.median(trials.seconds[trials.participant == one]) for one in people])
    right, sure = trials.means("accuracy"), trials.means("confidence")
    counts = np.bincount(trials.confidence, minlength=6)[1:]
    return ConditionPart(
        name=condition.name,
        kind=condition.kind.value,
        text=condition.text,
        participants=len(trials.participants),
        answers=len(trials.participant),
        accuracy=mean_figure(right, 0.0, 1.0),
        accuracy_bootstrap=bootstrap_figure(right, draws, seed),
        spread=float(right.std(ddof=1)) if len(right) > 1 else None,
        majority=majority_part(votes),
        confidence=mean_figure(sure, 1.0, 5.0),
        confidence_bootstrap=bootstrap_figure(sure, draws, seed),
        confidence_counts=(int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3]), int(counts[4])),
        seconds=median_figure(medians),
        agreement=agreement(np.array([one.votes for one in votes], dtype=float).reshape(-1, classes), draws, seed),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        participant_accuracies=tuple(map(float, np.sort(right))),
        votes=votes,
    )


def votes_of(document: StudyDocument, condition: str, trials: Trials) -> tuple[VotesPart, ...]:
    """The votes on every stimulus of a condition, in the order of the study."""
    rows: dict[str, list[int]] = {stimulus.id: [] for stimulus in document.of(condition)}
    for row, shown in enumerate(trials.stimulus):
        rows[shown].append(row)
    parts = []
    for stimulus in document.of(condition):
        at = rows[stimulus.id]
        counts = np.bincount(trials.label[at], minlength=len(document.labels))
        first = np.flatnonzero(counts == counts.max()) if at else np.array([], dtype=int)
        parts.append(
            VotesPart(
                stimulus=stimulus.id,
                original=stimulus.original,
                truth=stimulus.label,
                answers=len(at),
                correct=int(counts[stimulus.label]),
                votes=tuple(map(int, counts)),
                majority=int(first[0]) if len(first) == 1 else None,
                tie=len(first) > 1,
                confidence=float(trials.confidence[at].mean()) if at else None,
            )
        )
    return tuple(parts)


def majority_part(votes: Sequence[VotesPart]) -> MajorityPart:
    """Each stimulus by the label with the most votes; a tie has none, and so is not correct."""
    answered = [one for one in votes if one.answers]
    return MajorityPart(
        share=share(sum(one.majority == one.truth for one in answered), len(answered)),
        ties=sum(one.tie for one in answered),
        unanswered=len(votes) - len(answered),
    )
