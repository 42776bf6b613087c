from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from charpy_plugins.study.document import (
    Condition,
    Consent,
    Exclusion,
    Kind,
    Source,
    Stimulus,
    StudyDocument,
    Texts,
)
from charpy_plugins.study.responses import Answer, Participant, Responses, State

LABELS = ("cat", "dog", "ship")
Said = Sequence[tuple[int, int, int]]
"""Answers of one participant: index of the original, label, confidence."""


@pytest.fixture
def study() -> Callable[..., StudyDocument]:
    return document_of


@pytest.fixture
def answered() -> Callable[..., Responses]:
    return responses_of


@pytest.fixture
def people() -> Callable[..., Responses]:
    return population


def stimulus_id(condition: int, original: int) -> str:
    return f"{condition:08x}{original:08x}"


def document_of(
    conditions: Sequence[str] = ("benign", "imperceptible", "perceptible"),
    originals: int = 12,
    questions: int = 6,
    exclusion: Exclusion | None = None,
    labels: tuple[str, ...] = LABELS,
) -> StudyDocument:
    """The true class of original i is i modulo the number of labels."""
    return StudyDocument(
        name="a small study",
        source=Source(dataset="digits", shape=(1, 8, 8), class_names=labels),
        labels=labels,
        conditions=tuple(
            Condition(name=name, kind=Kind.BENIGN if name == "benign" else Kind.WITNESS, text=name)
            for name in conditions
        ),
        stimuli=tuple(
            Stimulus(
                id=stimulus_id(arm, at),
                condition=name,
                original=f"sample-{at}",
                label=at % len(labels),
                digests=("0" * 64,),
            )
            for arm, name in enumerate(conditions)
            for at in range(originals)
        ),
        sizes=(1,),
        questions=questions,
        texts=Texts(title="t", instructions="i", consent=Consent(version="1", text="c")),
        exclusion=exclusion or Exclusion(),
    )


def responses_of(
    document: StudyDocument,
    said: Mapping[str, Sequence[Said]],
    *,
    states: Mapping[str, State] | None = None,
    checks: Mapping[str, Sequence[bool]] | None = None,
    seconds: Mapping[str, float] | None = None,
    simulated: str = "",
) -> Responses:
    """Participants `benign-0`, `benign-1`, ... with the answers said; `checks`: which attention checks they passed."""
    names = [condition.name for condition in document.conditions]
    participants, answers = [], []
    for condition, everybody in said.items():
        arm = names.index(condition)
        for number, one in enumerate(everybody):
            person = f"{condition}-{number}"
            state = (states or {}).get(person, State.FINISHED)
            done = 100.0 if state is State.FINISHED else None
            participants.append(Participant(person, condition, state, "1", 0.0, 100.0, done))
            shared: dict[str, Any] = {"participant": person, "condition": condition, "answered": 50.0}
            shared["seconds"] = (seconds or {}).get(person, 4.0)
            for position, (original, label, confidence) in enumerate(one):
                answers.append(
                    Answer(
                        position=position,
                        stimulus=stimulus_id(arm, original),
                        original=f"sample-{original}",
                        truth=original % len(document.labels),
                        label=label,
                        confidence=confidence,
                        **shared,
                    )
                )
            for position, passed in enumerate((checks or {}).get(person, ()), start=len(one)):
                label = 0 if passed else 1
                answers.append(
                    Answer(
                        position=position,
                        stimulus="check",
                        original="check",
                        truth=0,
                        label=label,
                        confidence=1,
                        check=True,
                        **shared,
                    )
                )
    return Responses(tuple(participants), tuple(answers), simulated)


def population(
    document: StudyDocument, accuracies: Mapping[str, float], arms: Mapping[str, int], seed: int, spread: float = 0.05
) -> Responses:
    """Beta-distributed accuracies of participants; wrong labels and confidence drawn evenly."""
    random = np.random.default_rng(seed)
    originals, classes = len(document.of(document.conditions[0].name)), len(document.labels)
    said: dict[str, list[list[tuple[int, int, int]]]] = {}
    for condition, accuracy in accuracies.items():
        total = accuracy * (1 - accuracy) / spread**2 - 1
        said[condition] = []
        for _ in range(arms[condition]):
            ability = random.beta(accuracy * total, (1 - accuracy) * total)
            shown = random.permutation(originals)[: document.questions]
            right = random.random(len(shown)) < ability
            said[condition].append(
                [
                    (
                        int(original),
                        int((original + (0 if good else random.integers(1, classes))) % classes),
                        int(random.integers(4, 6) if good else random.integers(2, 6)),
                    )
                    for original, good in zip(shown, right, strict=True)
                ]
            )
    return responses_of(document, said, simulated="of a test")
