"""Joining, being shown, answering, withdrawing: each one transaction, on disk before it is acknowledged."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b32encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from charpy.errors import DataError
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import Participant, Responses, State
from charpy_plugins.study.store import records
from charpy_plugins.study.store.connect import READING
from charpy_plugins.study.store.draw import chosen_condition, drawn_questions
from charpy_plugins.study.store.opening import opened
from charpy_plugins.study.store.records import Arm, as_participant
from charpy_plugins.study.store.tables import answers, events, meta, participants, questions


class Refused(Exception):  # noqa: N818 - no error of ours: what a participant did cannot be done
    """A request that changes nothing; `kind` is one word for the log, `status` the HTTP status."""

    def __init__(self, kind: str, status: int, text: str) -> None:
        self.kind, self.status, self.text = kind, status, text
        super().__init__(text)


class Admission(NamedTuple):
    """Who may go on: what the cookie holds, and the participant."""

    token: str
    participant: Participant


class Question(NamedTuple):
    """The next thing to answer.

    Attributes:
        position: 0, 1, ...; `total` with the attention checks.
        stimulus: id of the image.
        asked: the label that an attention check asks for; None of a question.
    """

    position: int
    total: int
    stimulus: str
    asked: int | None


class Store:
    """An open answers database of one study. Thread-safe; every method that writes is one transaction.

    Args:
        engine: of `connect`.
        document: the study.
        clock: seconds since 1970.
    """

    def __init__(self, engine: Engine, document: StudyDocument, clock: Callable[[], float] = time.time) -> None:
        self._engine, self.document, self._clock = engine, document, clock
        with self._reading() as db:
            facts = {str(key): str(value) for key, value in db.execute(select(meta.c.key, meta.c.value)).tuples()}
        self.simulated = facts["simulated"]
        self.secret = facts["secret"]
        self._salt = facts["salt"].encode()

    @classmethod
    def open(
        cls,
        where: str | Path,
        document: StudyDocument,
        *,
        create: bool = False,
        simulated: str = "",
        clock: Callable[[], float] = time.time,
    ) -> Store:
        """The database at a path or URL, made where there is none and `create` is set.

        Raises:
            DataError: it is not there, cannot be reached, or is no answers database.
            IdentityError: its answers are of another study, or of people where a simulation is asked for.
        """
        engine = opened(where, document, create=create, simulated=simulated)
        return cls(engine, document, clock)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    # --- what a participant does

    def join(
        self, consent_version: str, person: str = "", visit: str = "", per_condition: int | None = None
    ) -> Admission:
        """A new participant in the least-filled condition, or the one that this person already is.

        Args:
            consent_version: of the text that was agreed to, now.
            person: the panel's id of a person; only its salted hash is kept.
            visit: the panel's id of this visit; who comes back with it goes on where they were.
            per_condition: a condition with so many is full.

        Raises:
            Refused: another consent text, a person who is here already by another visit, or every condition is full.
        """
        if consent_version != self.document.texts.consent.version:
            raise Refused("consent", 400, "The consent form has changed. Please read it again.")
        with self._writing() as db:
            if person:
                known = db.execute(
                    select(participants).where(participants.c.person == self._hash(person))
                ).one_or_none()
                if known is not None:
                    return self._back(db, known, visit)
            now = self._clock()
            condition = chosen_condition(self.document, self._filled(db, now), per_condition)
            if condition is None:
                raise Refused("full", 409, "The study has all the participants that it needs.")
            found = Participant(secrets.token_hex(16), condition, State.STARTED, consent_version, now, now, None)
            token = secrets.token_urlsafe(32)
            hashes = {
                "person": self._hash(person) if person else None,
                "visit": self._hash(visit) if visit else None,
                "token": _digest(token),
                "code": _digest(self.code(found.id)),
            }
            db.execute(insert(participants).values(**found._asdict(), **hashes))
            rows = drawn_questions(self.document, condition, self._seen(db, condition))
            db.execute(insert(questions), [{"participant": found.id, **row._asdict()} for row in rows])
        return Admission(token, found)

    def participant(self, token: str) -> Participant | None:
        """Whose cookie this is."""
        with self._reading() as db:
            row = db.execute(select(participants).where(participants.c.token == _digest(token))).one_or_none()
        return None if row is None else as_participant(row)

    def question(self, participant: Participant) -> Question | None:
        """What to answer next; None where all is answered. Its first showing is noted."""
        with self._writing() as db:
            row = self._next(db, participant.id)
            if row is None:
                return None
            now, own = self._clock(), questions.c.participant == participant.id
            here = own & (questions.c.position == row.position)
            db.execute(update(questions).where(here & questions.c.shown.is_(None)).values(shown=now))
            db.execute(update(participants).where(participants.c.id == participant.id).values(seen=now))
            total = db.execute(select(func.count()).select_from(questions).where(own)).scalar_one()
        return Question(row.position, total, row.stimulus, row.asked)

    def shows(self, participant: Participant, stimulus: str) -> bool:
        """Whether the image is one of this participant's."""
        own = (questions.c.participant == participant.id) & (questions.c.stimulus == stimulus)
        with self._reading() as db:
            return db.execute(select(questions.c.position).where(own)).first() is not None

    def answer(self, participant: Participant, position: int, label: int, confidence: int) -> bool:
        """Keep an answer; whether it was the last.

        Raises:
            Refused: answered before, not the question that is next, no such label or confidence, or withdrawn since.
        """
        if not 0 <= label < len(self.document.labels) or not 1 <= confidence <= len(self.document.texts.scale):
            raise Refused("invalid", 400, "Please choose one of the labels, and how confident you are.")
        with self._writing() as db:
            row = self._next(db, participant.id)
            if row is None or position < row.position:
                raise Refused("replayed", 409, "This question has been answered already.")
            if position != row.position:
                raise Refused("out of order", 409, "This is not the next question.")
            now = self._clock()
            seconds = max(0.0, now - (row.shown if row.shown is not None else now))
            values = {"label": label, "confidence": confidence, "seconds": seconds, "answered": now}
            db.execute(insert(answers).values(participant=participant.id, position=position, **values))
            last = self._next(db, participant.id) is None
            done = {"state": State.FINISHED, "finished": now} if last else {}
            db.execute(update(participants).where(participants.c.id == participant.id).values(seen=now, **done))
        return last

    def code(self, participant: str) -> str:
        """The code for withdrawal, 16 characters in groups of four; it is kept as a hash only."""
        mark = hmac.new(self._salt, f"withdraw {participant}".encode(), hashlib.sha256).digest()
        text = b32encode(mark[:10]).decode().translate(str.maketrans("IO", "89"))
        return "-".join(text[place : place + 4] for place in range(0, 16, 4))

    def withdraw(self, code: str) -> None:
        """Erase the answers of whose code this is, and what could tell who it was; only the count stays.

        Raises:
            Refused: nobody has this code.
        """
        plain = "".join(code.upper().split()).replace("-", "").translate(str.maketrans("IO", "89"))
        tidy = "-".join(plain[place : place + 4] for place in range(0, len(plain), 4))
        with self._writing() as db:
            own = participants.c.code == _digest(tidy)
            found = db.execute(select(participants.c.id).where(own)).scalar_one_or_none()
            if found is None:
                raise Refused("unknown code", 404, "Nobody has this code. Please check it letter by letter.")
            for table in (answers, questions):
                db.execute(delete(table).where(table.c.participant == found))
            db.execute(delete(events).where(events.c.participant == found))
            erased = dict.fromkeys(("person", "visit", "token", "code"))
            db.execute(update(participants).where(own).values(state=State.WITHDRAWN, **erased))

    def note(self, kind: str, detail: str = "", participant: str | None = None, *, refused: bool = False) -> None:
        """Keep an event: one word, and at most 200 characters that name nobody."""
        row = {"time": self._clock(), "kind": kind[:40], "detail": detail[:200], "participant": participant}
        with self._writing() as db:
            db.execute(insert(events).values(**row, refused=refused))

    # --- what a researcher reads

    def progress(self) -> list[Arm]:
        """How far each condition is, in the order of the study."""
        with self._reading() as db:
            return records.progress(db, self.document, self._clock() - 60 * self.document.dropout_minutes)

    def refusals(self) -> dict[str, int]:
        """How many requests were refused, by kind."""
        with self._reading() as db:
            return records.refusals(db)

    def responses(self) -> Responses:
        """Everybody and everything, in the order of joining."""
        with self._reading() as db:
            return records.responses(db, self.document, self.simulated)

    def write(self, responses: Responses) -> None:
        """Store a simulated population, whole or not at all.

        Raises:
            DataError: this database is for people.
        """
        if not self.simulated or not responses.simulated:
            raise DataError("made-up answers do not go among those of people", expected="a simulated database")
        with self._writing() as db:
            records.write(db, responses)

    # --- within a transaction

    def _back(self, db: Connection, known: Row[Any], visit: str) -> Admission:
        if known.visit is None or not visit or not hmac.compare_digest(known.visit, self._hash(visit)):
            raise Refused("taken part", 409, "You have taken part in this study already.")
        token = secrets.token_urlsafe(32)
        db.execute(update(participants).where(participants.c.id == known.id).values(token=_digest(token)))
        return Admission(token, as_participant(known))

    def _filled(self, db: Connection, now: float) -> dict[str, int]:
        """Condition -> its participants who finished or are at work."""
        active = (participants.c.state == State.STARTED) & (
            participants.c.seen >= now - 60 * self.document.dropout_minutes
        )
        here = (participants.c.state == State.FINISHED) | active
        count = select(participants.c.condition, func.count()).where(here).group_by(participants.c.condition)
        return dict(db.execute(count).tuples().all())

    def _seen(self, db: Connection, condition: str) -> dict[str, int]:
        """Stimulus -> how many participants of the condition it was given to."""
        count = (
            select(questions.c.stimulus, func.count())
            .join(participants, participants.c.id == questions.c.participant)
            .where((participants.c.condition == condition) & questions.c.asked.is_(None))
            .group_by(questions.c.stimulus)
        )
        return dict(db.execute(count).tuples().all())

    def _next(self, db: Connection, participant: str) -> Row[Any] | None:
        """The first question without an answer."""
        here = (answers.c.participant == questions.c.participant) & (answers.c.position == questions.c.position)
        missing = (questions.c.participant == participant) & answers.c.position.is_(None)
        rows = select(questions).outerjoin(answers, here).where(missing).order_by(questions.c.position).limit(1)
        return db.execute(rows).one_or_none()

    def _hash(self, text: str) -> str:
        return hmac.new(self._salt, text.encode("utf-8", errors="surrogatepass"), hashlib.sha256).hexdigest()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction of the only writer: SQLite begins it so, elsewhere a locked row makes the others wait."""
        with self._engine.begin() as db:
            db.execute(select(meta.c.value).where(meta.c.key == "format").with_for_update())
            yield db

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{READING: True}) as db:
            yield db


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
