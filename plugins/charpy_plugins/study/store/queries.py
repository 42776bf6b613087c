"""What a transaction asks before it decides: who is at work, what was given, what comes next."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select

from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import State
from charpy_plugins.study.store.draw import chosen_condition
from charpy_plugins.study.store.outcomes import Refused
from charpy_plugins.study.store.tables import answers, meta, participants, questions


def in_place(cut: float) -> ColumnElement[bool]:
    """Whether a participant holds a place: finished, or at work and last seen at `cut` or later."""
    active = (participants.c.state == State.STARTED) & (participants.c.seen >= cut)
    return or_(participants.c.state == State.FINISHED, active)


def filled(db: Connection, cut: float) -> dict[str, int]:
    """Condition -> how many participants hold a place."""
    count = select(participants.c.condition, func.count()).where(in_place(cut)).group_by(participants.c.condition)
    return dict(db.execute(count).all())


def free_condition(db: Connection, document: StudyDocument, cut: float, limit: int | None) -> str:
    """The condition of whoever joins now.

    Raises:
        Refused: the study is paused, or every condition has as many participants as `limit` says.
    """
    if paused(db):
        raise Refused("paused", 503, "The study is paused at the moment. Please come back later.")
    condition = chosen_condition(document, filled(db, cut), limit)
    if condition is None:
        raise Refused("full", 409, "The study has all the participants that it needs.")
    return condition


def given(db: Connection, condition: str, cut: float) -> dict[str, int]:
    """Stimulus -> how many participants of the condition have answered it, or hold a place and will."""
    here = (answers.c.participant == questions.c.participant) & (answers.c.position == questions.c.position)
    counts = or_(in_place(cut), answers.c.position.is_not(None))
    count = (
        select(questions.c.stimulus, func.count())
        .join(participants, participants.c.id == questions.c.participant)
        .outerjoin(answers, here)
        .where((participants.c.condition == condition) & questions.c.asked.is_(None) & counts)
        .group_by(questions.c.stimulus)
    )
    return dict(db.execute(count).all())


def next_question(db: Connection, participant: str) -> Row[Any] | None:
    """The first question without an answer."""
    here = (answers.c.participant == questions.c.participant) & (answers.c.position == questions.c.position)
    missing = (questions.c.participant == participant) & answers.c.position.is_(None)
    rows = select(questions).outerjoin(answers, here).where(missing).order_by(questions.c.position).limit(1)
    return db.execute(rows).one_or_none()


def still_here(db: Connection, participant: str) -> bool:
    """Whether the participant has not withdrawn since the request came in; nobody else changes them from now on."""
    own = select(participants.c.state).where(participants.c.id == participant).with_for_update()
    return db.execute(own).scalar_one_or_none() not in (None, State.WITHDRAWN)


def known(db: Connection, person: str) -> Row[Any] | None:
    """Who a person is, by their salted hash."""
    return db.execute(select(participants).where(participants.c.person == person)).one_or_none()


def paused(db: Connection) -> bool:
    """Whether the operator takes no newcomers."""
    return db.execute(select(meta.c.value).where(meta.c.key == "paused")).scalar_one_or_none() == "yes"
