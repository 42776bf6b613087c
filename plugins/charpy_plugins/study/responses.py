"""What participants did, as the store gives it and an analysis takes it; people or a simulated population."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How far a participant has come; who withdrew has no answers any more."""

    STARTED = "started"
    FINISHED = "finished"
    WITHDRAWN = "withdrawn"


class Participant(NamedTuple):
    """One participant. Times are seconds since 1970, UTC; `id` is drawn and says nothing of the person."""

    id: str
    condition: str
    state: State
    consent_version: str
    joined: float
    seen: float
    finished: float | None


class Answer(NamedTuple):
    """One answer, to a question about an image or to an attention check.

    Attributes:
        participant: id.
        condition: of the participant.
        position: 0, 1, ... in the order in which they were shown.
        stimulus: id of the image that was shown.
        original: id of the unchanged sample; the same in every condition.
        truth: the true class; of an attention check, the label that was asked for.
        label: what was chosen.
        confidence: 1 to 5.
        seconds: from the question's first showing to the answer, by the server's clock.
        answered: seconds since 1970, UTC.
        check: an attention check, no question.
    """

    participant: str
    condition: str
    position: int
    stimulus: str
    original: str
    truth: int
    label: int
    confidence: int
    seconds: float
    answered: float
    check: bool = False


class Responses(NamedTuple):
    """All participants, those without answers too, and all answers; `simulated` names the population, '' for people."""

    participants: tuple[Participant, ...]
    answers: tuple[Answer, ...]
    simulated: str = ""
