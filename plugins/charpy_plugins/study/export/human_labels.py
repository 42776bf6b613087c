"""Which stimuli look like their originals, by what people say they show: pictures and answers for `charpy perceive`.

Sharif et al. 2018, section 4.1: different people say what an image and its original show. If they disagree, the two
are dissimilar; otherwise they are likely similar. Here a vote for a changed image says "the same" where its label is
the one that most people gave the benign image of the same original.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from charpy.reports.table import Column, Table
from charpy_plugins.study.analysis.document import StudyAnalysis, VotesPart
from charpy_plugins.study.document import Kind, Stimulus, StudyDocument
from charpy_plugins.study.export.tables import SIMULATED
from charpy_plugins.study.studyfile import Study

VOTES = 3
"""Fewer answers than this to either image say nothing about a pair."""


class LabelledPair(NamedTuple):
    """A changed image beside its original.

    Attributes:
        file: of both pictures, below the folders of the originals and of the changed images.
        benign: the unchanged image as a stimulus.
        same, answers: votes for the changed image, those for the benign majority label, and all.
    """

    file: str
    stimulus: Stimulus
    benign: Stimulus
    reference: int
    same: int
    answers: int


class HumanLabels(NamedTuple):
    """The pairs that people say something about, and how many they do not: no benign image, votes, or majority."""

    pairs: tuple[LabelledPair, ...]
    no_benign: int
    few_votes: int
    no_majority: int

    @property
    def left_out(self) -> str:
        """In words; empty where none is."""
        named = (
            (self.no_benign, "without a benign image of the same original"),
            (self.few_votes, f"with fewer than {VOTES} votes for either image"),
            (self.no_majority, "whose benign image has no majority"),
        )
        return ", ".join(f"{count} {text}" for count, text in named if count)


def human_labels(document: StudyDocument, analysis: StudyAnalysis) -> HumanLabels:
    """Every changed stimulus with its votes, where both images of the pair have `VOTES` answers."""
    votes = {part.stimulus: part for condition in analysis.conditions for part in condition.votes}
    benign = {one.original: one for name in _named(document, benign=True) for one in document.of(name)}
    pairs, missing, few, tied = [], 0, 0, 0
    for one in (stimulus for name in _named(document, benign=False) for stimulus in document.of(name)):
        first = benign.get(one.original)
        if first is None:
            missing += 1
        elif min(_answers(votes, first), _answers(votes, one)) < VOTES:
            few += 1
        elif (reference := votes[first.id].majority) is None:
            tied += 1
        else:
            said = votes[one.id]
            file = f"{one.label:03d}/{one.condition}-{one.id}.png"
            pairs.append(LabelledPair(file, one, first, reference, said.votes[reference], said.answers))
    return HumanLabels(tuple(pairs), missing, few, tied)


def human_table(document: StudyDocument, pairs: Sequence[LabelledPair], *, simulated: bool) -> Table[LabelledPair]:
    """human_labels.csv, as `charpy perceive --answers` reads it."""
    columns: list[Column[LabelledPair]] = [
        Column("original", lambda row: row.file, "file of the original, in the folder `originals`"),
        Column("changed", lambda row: row.file, "file of the changed image, in the folder `changed`"),
        Column("same", lambda row: f"{row.same}/{row.answers}", "votes of the changed image for the label that most "
               "people gave its benign image, and all its votes", "answers", "7/10 is 7 of 10"),
        Column("condition", lambda row: row.stimulus.condition, "of the changed image"),
        Column("stimulus", lambda row: row.stimulus.id, "the changed image, as in stimuli.csv"),
        Column("benign", lambda row: row.benign.id, "the benign image, as in stimuli.csv"),
        Column("benign_label", lambda row: document.labels[row.reference], "what most people say the benign image is"),
        Column("simulated", lambda row: SIMULATED if simulated else "no",
               f"`{SIMULATED}`: a simulated population answered, not people", "", f"{SIMULATED}, no"),
    ]  # fmt: skip
    name = "human_labels.csv" if not simulated else f"{SIMULATED}_human_labels.csv"
    about = (
        "One row for every changed image that people say something about: does it look like its original? By Sharif et "
        "al. 2018, section 4.1, it does as far as people who saw only the one give it the label of people who saw only "
        f"the other. A pair counts with {VOTES} votes or more for either image, and a majority for the benign one. "
        f"For `charpy perceive --originals originals --changed changed --answers {name}`."
    )
    return Table(name, about, columns, tuple(pairs))


def pictures(study: Study, pairs: Sequence[LabelledPair], *, simulated: bool) -> dict[str, dict[str, bytes]]:
    """Folder -> file -> PNG of size 1; a simulated population's folders say so."""
    prefix = f"{SIMULATED}_" if simulated else ""
    return {
        f"{prefix}originals": {pair.file: study.images[pair.benign.id, 1] for pair in pairs},
        f"{prefix}changed": {pair.file: study.images[pair.stimulus.id, 1] for pair in pairs},
    }


def _answers(votes: dict[str, VotesPart], stimulus: Stimulus) -> int:
    part = votes.get(stimulus.id)
    return part.answers if part else 0


def _named(document: StudyDocument, *, benign: bool) -> list[str]:
    return [condition.name for condition in document.conditions if (condition.kind is Kind.BENIGN) == benign]
