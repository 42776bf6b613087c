"""Responses as one JSON file, `responses.json`: to carry them between machines, and for a simulated population."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charpy.errors import DataError, IdentityError
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import Answer, Participant, Responses, State

FORMAT: Final = "charpy-study-responses-1"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Participant(_Row):
    id: str = Field(min_length=1, max_length=200)
    condition: str
    state: State
    consent_version: str
    joined: float
    seen: float
    finished: float | None


class _Answer(_Row):
    participant: str
    condition: str
    position: int = Field(ge=0)
    stimulus: str
    original: str
    truth: int = Field(ge=0)
    label: int = Field(ge=0)
    confidence: int = Field(ge=1, le=5)
    seconds: float = Field(ge=0)
    answered: float
    check: bool = False


class _File(_Row):
    format: Literal["charpy-study-responses-1"]
    study: str
    fingerprint: str
    simulated: str
    participants: tuple[_Participant, ...]
    answers: tuple[_Answer, ...]


def responses_bytes(document: StudyDocument, responses: Responses) -> bytes:
    """UTF-8 JSON, a line for each participant and answer; the same responses give the same bytes."""
    head = {
        "format": FORMAT,
        "study": document.name,
        "fingerprint": document.fingerprint,
        "simulated": responses.simulated,
    }
    lines = [f"{json.dumps(key)}: {_text(value)}" for key, value in head.items()]
    for key, rows in (("participants", responses.participants), ("answers", responses.answers)):
        inside = ",\n".join(_text(row._asdict()) for row in rows)
        lines.append(f"{json.dumps(key)}: [\n{inside}\n]" if rows else f"{json.dumps(key)}: []")
    # A lone surrogate in a name cannot be written as UTF-8; it becomes an escape instead of an error.
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", errors="backslashreplace")


def read_responses(path: Path, document: StudyDocument) -> Responses:
    """The responses of a file, held against the study.

    Raises:
        DataError: no such file, none of this format, or responses that cannot be of this study.
        IdentityError: they are of another study.
    """
    hint = "`charpy study simulate` and `charpy study analyse` write such a file"
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as cause:
        raise DataError("the answers cannot be read", where=str(path), found=cause.strerror, hint=hint) from None
    except ValidationError as cause:
        first = cause.errors()[0]
        where = f"{path}, {'.'.join(map(str, first['loc'])) or 'as a whole'}"
        raise DataError("no answers of a study", where=where, found=first["msg"], expected=FORMAT, hint=hint) from None
    if found.fingerprint != document.fingerprint:
        expected = f"answers to {document.name}, {document.fingerprint[:16]}"
        raise IdentityError(
            "answers to another study",
            where=str(path),
            found=f"{found.study}, {found.fingerprint[:16]}",
            expected=expected,
            hint="a study is frozen: whatever is changed in it makes it another one",
        )
    people = tuple(Participant(**dict(row)) for row in found.participants)
    responses = Responses(people, tuple(Answer(**dict(row)) for row in found.answers), found.simulated)
    check_responses(document, responses, str(path))
    return responses


def check_responses(document: StudyDocument, responses: Responses, where: str) -> None:
    """Refuse what cannot have been answered in this study.

    Raises:
        DataError: naming the participant and the place.
    """
    conditions = {condition.name for condition in document.conditions}
    stimuli = {stimulus.id: stimulus for stimulus in document.stimuli}
    people = {person.id: person for person in responses.participants}
    if len(people) < len(responses.participants):
        twice = Counter(person.id for person in responses.participants).most_common(1)[0][0]
        raise DataError("a participant who is there twice", where=where, found=twice)
    for person in responses.participants:
        if person.condition not in conditions:
            raise DataError("a participant of no condition", where=f"{where}, {person.id}", found=person.condition)
    places: set[tuple[str, int]] = set()
    for answer in responses.answers:
        at = f"{where}, participant {answer.participant}, position {answer.position}"
        owner, stimulus = people.get(answer.participant), stimuli.get(answer.stimulus)
        if owner is None or owner.condition != answer.condition:
            found = "nobody of that id" if owner is None else f"condition {answer.condition}"
            expected = "a participant" if owner is None else f"condition {owner.condition}"
            raise DataError("an answer of nobody", where=at, found=found, expected=expected)
        if (answer.participant, answer.position) in places:
            raise DataError("two answers at one place", where=at)
        places.add((answer.participant, answer.position))
        if not answer.check and (stimulus is None or stimulus.condition != answer.condition):
            raise DataError("an answer to no image of the condition", where=at, found=answer.stimulus)
        if not answer.check and stimulus is not None and answer.truth != stimulus.label:
            raise DataError("another true class", where=at, found=answer.truth, expected=stimulus.label)
        if max(answer.label, answer.truth) >= len(document.labels):
            chosen, most = max(answer.label, answer.truth), len(document.labels) - 1
            raise DataError("no label of the study", where=at, found=chosen, expected=f"0 to {most}")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
