"""participants.csv, answers.csv and stimuli.csv: everything that was answered, and what an analysis made of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from charpy.reports.table import Column, Table, Value, moment
from charpy_plugins.study.analysis.document import StudyAnalysis, VotesPart
from charpy_plugins.study.document import Stimulus, StudyDocument
from charpy_plugins.study.responses import Answer, Participant, Responses, State

SIMULATED = "SIMULATED"
"""In every row of what a simulated population said."""

YES_NO = "yes, no"
OF_NOBODY = "no question answered"


class Visit(NamedTuple):
    """A participant with the answers to questions and to checks, and why they were left out."""

    person: Participant
    questions: Sequence[Answer]
    checks: Sequence[Answer]
    reasons: Sequence[str]

    @property
    def included(self) -> bool:
        """Whether the figures are computed on this participant."""
        return self.person.state is State.FINISHED and not self.reasons

    def mean(self, value: Callable[[Answer], float]) -> float | None:
        """Over the questions."""
        return fmean(map(value, self.questions)) if self.questions else None


class Voted(NamedTuple):
    """A stimulus with what was said of it."""

    stimulus: Stimulus
    votes: VotesPart


def tables(
    document: StudyDocument, responses: Responses, analysis: StudyAnalysis
) -> tuple[Table[Visit], Table[Answer], Table[Voted]]:
    """The three files, in this order; each has a column `simulated`."""
    visits = _visits(responses, analysis)
    included = {visit.person.id for visit in visits if visit.included}
    votes = {part.stimulus: part for condition in analysis.conditions for part in condition.votes}
    voted = [Voted(one, votes[one.id]) for one in document.stimuli if one.id in votes]
    source = SIMULATED if analysis.simulated else "no"
    return (
        Table("participants.csv", "One row for everybody who joined.", _of_participants(source), visits),
        Table(
            "answers.csv",
            "One row for every answer, those to attention checks and of participants who are left out too.",
            _of_answers(document, included, source),
            responses.answers,
        ),
        Table(
            "stimuli.csv",
            "One row for every image that was shown; votes are those of included participants.",
            _of_stimuli(document, source),
            voted,
        ),
    )


def _visits(responses: Responses, analysis: StudyAnalysis) -> list[Visit]:
    reasons = {part.participant: part.reasons for part in analysis.excluded}
    asked: defaultdict[str, list[Answer]] = defaultdict(list)
    checked: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in responses.answers:
        (checked if answer.check else asked)[answer.participant].append(answer)
    return [Visit(one, asked[one.id], checked[one.id], reasons.get(one.id, ())) for one in responses.participants]


def _simulated(source: str) -> Column[Any]:
    meaning = f"`{SIMULATED}`: a simulated population answered, not people"
    return Column("simulated", lambda row: source, meaning, range=f"{SIMULATED}, no")


def _of_participants(source: str) -> list[Column[Visit]]:
    seconds = "s, by the server's clock"
    return [
        Column("participant", lambda row: row.person.id, "drawn id; says nothing of the person"),
        Column("condition", lambda row: row.person.condition, "the only condition whose images were shown"),
        Column("state", lambda row: row.person.state.value, "how far; who withdrew has no answers any more",
               range="started, finished, withdrawn"),
        Column("included", lambda row: row.included, "the figures are computed on this participant", range=YES_NO),
        Column("reasons", lambda row: "; ".join(row.reasons) or None, "why not, of those who finished",
               missing="no rule of the study excludes them"),
        Column("consent_version", lambda row: row.person.consent_version, "the consent text that was agreed to"),
        Column("joined", lambda row: moment(row.person.joined), "consent given", "UTC, ISO 8601"),
        Column("finished", lambda row: moment(row.person.finished), "last answer", "UTC, ISO 8601",
               missing="not finished"),
        Column("questions", lambda row: len(row.questions), "questions answered, checks apart", "answers", "0 or more"),
        Column("correct", lambda row: sum(one.label == one.truth for one in row.questions),
               "of these, with the true class", "answers", "0 to questions"),
        Column("accuracy", lambda row: row.mean(lambda one: one.label == one.truth), "correct / questions", "share",
               "0 to 1", OF_NOBODY),
        Column("confidence", lambda row: row.mean(lambda one: one.confidence), "mean over the questions", "points",
               "1 to 5", OF_NOBODY),
        Column("seconds", lambda row: median(one.seconds for one in row.questions) if row.questions else None,
               "median time of a question", seconds, "0 or more", OF_NOBODY),
        Column("checks", lambda row: len(row.checks), "attention checks answered", "answers", "0 or more"),
        Column("checks_failed", lambda row: sum(one.label != one.truth for one in row.checks),
               "of these, with another label than the one asked for", "answers", "0 to checks"),
        _simulated(source),
    ]  # fmt: skip


def _of_answers(document: StudyDocument, included: set[str], source: str) -> list[Column[Answer]]:
    last = f"0 to {len(document.labels) - 1}"
    return [
        Column("participant", lambda row: row.participant, "id, as in participants.csv"),
        Column("condition", lambda row: row.condition, "of the participant"),
        Column("position", lambda row: row.position, "place in the order in which it was shown", range="0 or more"),
        Column("stimulus", lambda row: row.stimulus, "id of the image that was shown, as in stimuli.csv"),
        Column("original", lambda row: row.original, "id of the unchanged sample; the same in every condition"),
        Column("truth", lambda row: row.truth, "true class; of an attention check, the label that was asked for",
               "class number", last),
        Column("truth_label", lambda row: document.labels[row.truth], "the same in words"),
        Column("label", lambda row: row.label, "what was chosen", "class number", last),
        Column("label_text", lambda row: document.labels[row.label], "the same in words"),
        Column("correct", lambda row: int(row.label == row.truth), "label is truth", range="0, 1"),
        Column("confidence", lambda row: row.confidence, "how confident in it", "points", "1 to 5"),
        Column("seconds", lambda row: row.seconds, "from the question's first showing to the answer",
               "s, by the server's clock", "0 or more"),
        Column("answered", lambda row: moment(row.answered), "when", "UTC, ISO 8601"),
        Column("check", lambda row: row.check, "an attention check, no question about the image", range=YES_NO),
        Column("included", lambda row: row.participant in included, "of an included participant", range=YES_NO),
        _simulated(source),
    ]  # fmt: skip


def _of_stimuli(document: StudyDocument, source: str) -> list[Column[Voted]]:
    last = f"0 to {len(document.labels) - 1}"
    threat = document.source.threat
    distance = "norm of the study" if threat is None else f"{threat.norm}, as the study's level"
    kinds = sorted({kind for stimulus in document.stimuli for kind in stimulus.metrics})
    benign = "a benign image, or not known"

    def word(label: int | None) -> str | None:
        known = label is not None and 0 <= label < len(document.labels)
        return document.labels[label] if known and label is not None else None

    return [
        Column("stimulus", lambda row: row.stimulus.id, "id; the name of its PNG in the study file"),
        Column("condition", lambda row: row.stimulus.condition, "who was shown it"),
        Column("original", lambda row: row.stimulus.original, "id of the unchanged sample, in every condition"),
        Column("truth", lambda row: row.stimulus.label, "true class of the original", "class number", last),
        Column("truth_label", lambda row: word(row.stimulus.label), "the same in words"),
        Column("prediction", lambda row: row.stimulus.prediction, "what the model says of it", "class number", last,
               "no model"),
        Column("prediction_label", lambda row: word(row.stimulus.prediction), "the same in words", missing="no model"),
        Column("attack", lambda row: row.stimulus.attack or None, "what made it", missing="a benign image"),
        Column("distance", lambda row: row.stimulus.distance, "from the original", distance, "0 or more", benign),
        *(_of_metric(kind) for kind in kinds),
        Column("answers", lambda row: row.votes.answers, "answers of included participants", "answers", "0 or more"),
        Column("correct", lambda row: row.votes.correct, "of these, with the true class", "answers", "0 to answers"),
        Column("share_correct", lambda row: row.votes.correct / row.votes.answers if row.votes.answers else None,
               "correct / answers", "share", "0 to 1", "no answers"),
        Column("majority", lambda row: row.votes.majority, "the label with the most votes", "class number", last,
               "a tie, or no answers"),
        Column("majority_label", lambda row: word(row.votes.majority), "the same in words",
               missing="a tie, or no answers"),
        Column("tie", lambda row: row.votes.tie, "two or more labels have the most votes", range=YES_NO),
        Column("confidence", lambda row: row.votes.confidence, "mean", "points", "1 to 5", "no answers"),
        *(_of_label(number, label) for number, label in enumerate(document.labels)),
        _simulated(source),
    ]  # fmt: skip


def _of_metric(kind: str) -> Column[Voted]:
    def value(row: Voted) -> Value:
        return row.stimulus.metrics.get(kind)

    return Column(f"metric_{kind}", value, f"`{kind}` of original and image", "see `charpy describe metric`", "",
                  "a benign image, or not measured")  # fmt: skip


def _of_label(number: int, label: str) -> Column[Voted]:
    def value(row: Voted) -> Value:
        return row.votes.votes[number]

    return Column(f"votes_{number}", value, f"answers with label {number}, {label}", "answers", "0 to answers")
