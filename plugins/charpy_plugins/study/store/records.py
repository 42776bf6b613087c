"""What a researcher reads of an answers database, each in one transaction that is given."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, insert, select

from charpy.reports.inert import visible
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import Answer, Participant, Responses, State
from charpy_plugins.study.store.erase import DAY
from charpy_plugins.study.store.outcomes import DECLINED
from charpy_plugins.study.store.tables import answers, events, participants, questions


class Arm(NamedTuple):
    """How far one condition is; `started` are at work, `dropped` were silent for longer than the cut-off."""

    condition: str
    finished: int
    started: int
    dropped: int
    withdrawn: int
    answers: int
    last: float | None


def progress(db: Connection, document: StudyDocument, cut: float) -> list[Arm]:
    """How far each condition is; who was last seen before `cut` has dropped out."""
    silent = participants.c.seen < cut
    by_state = select(participants.c.condition, participants.c.state, silent, func.count()).group_by(
        participants.c.condition, participants.c.state, silent
    )
    given = (
        select(participants.c.condition, func.count())
        .join(answers, answers.c.participant == participants.c.id)
        .group_by(participants.c.condition)
    )
    last = select(participants.c.condition, func.max(participants.c.seen)).group_by(participants.c.condition)
    counts = {(name, State(state), bool(late)): count for name, state, late, count in db.execute(by_state)}
    answered: dict[str, int] = dict(db.execute(given).all())
    seen: dict[str, float] = dict(db.execute(last).all())

    def number(condition: str, state: State, *silence: bool) -> int:
        return sum(counts.get((condition, state, late), 0) for late in silence)

    return [
        Arm(
            name,
            number(name, State.FINISHED, False, True),
            number(name, State.STARTED, False),
            number(name, State.STARTED, True),
            number(name, State.WITHDRAWN, False, True),
            answered.get(name, 0),
            seen.get(name),
        )
        for name in (condition.name for condition in document.conditions)
    ]


def refusals(db: Connection) -> dict[str, int]:
    """How many requests were refused, by kind."""
    count = select(events.c.kind, func.count()).where(events.c.refused).group_by(events.c.kind)
    return {str(kind): number for kind, number in db.execute(count.order_by(events.c.kind))}


def responses(db: Connection, document: StudyDocument, simulated: str) -> Responses:
    """Everybody and everything, in the order of joining."""
    everybody = select(participants).order_by(participants.c.joined, participants.c.id)
    asked = (questions.c.participant == answers.c.participant) & (questions.c.position == answers.c.position)
    everything = (
        select(answers, questions.c.stimulus, questions.c.asked, participants.c.condition)
        .join(questions, asked)
        .join(participants, participants.c.id == answers.c.participant)
        .order_by(participants.c.joined, participants.c.id, answers.c.position)
    )
    people = tuple(as_participant(row) for row in db.execute(everybody))
    stimuli = {stimulus.id: (stimulus.original, stimulus.label) for stimulus in document.stimuli}
    given = tuple(_answer(row, *stimuli[row.stimulus]) for row in db.execute(everything))
    return Responses(people, given, simulated)


def write(db: Connection, made: Responses) -> None:
    """Store participants and their answers; the questions follow from these."""
    people = [row._asdict() for row in made.participants]
    asked = [
        {
            "participant": row.participant,
            "position": row.position,
            "stimulus": row.stimulus,
            "asked": row.truth if row.check else None,
            "shown": row.answered - row.seconds,
        }
        for row in made.answers
    ]
    columns = ("participant", "position", "label", "confidence", "seconds", "answered")
    given = [{column: getattr(row, column) for column in columns} for row in made.answers]
    for table, rows in ((participants, people), (questions, asked), (answers, given)):
        if rows:
            db.execute(insert(table), rows)


def note(db: Connection, now: float, kind: str, detail: str, participant: str | None, *, refused: bool) -> None:
    """Keep an event, see `Store.note`."""
    moment = now - now % DAY if kind == DECLINED else now
    row = {"time": moment, "kind": visible(kind)[:40], "detail": visible(detail[:200])[:200]}
    db.execute(insert(events).values(**row, participant=participant, refused=refused))


def as_participant(row: Row[Any]) -> Participant:
    """A row of the table."""
    return Participant(row.id, row.condition, State(row.state), row.consent_version, row.joined, row.seen, row.finished)


def _answer(row: Row[Any], original: str, label: int) -> Answer:
    return Answer(
        participant=row.participant,
        condition=row.condition,
        position=row.position,
        stimulus=row.stimulus,
        original=original,
        truth=label if row.asked is None else row.asked,
        label=row.label,
        confidence=row.confidence,
        seconds=row.seconds,
        answered=row.answered,
        check=row.asked is not None,
    )
