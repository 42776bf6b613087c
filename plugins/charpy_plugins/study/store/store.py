"""Joining, being shown, answering, withdrawing: each one transaction, on disk before it is acknowledged."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update
from sqlalchemy.exc import TimeoutError as Waited

from charpy.errors import DataError
from charpy.reports.inert import visible
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.responses import Participant, Responses, State
from charpy_plugins.study.store import overview, queries, records
from charpy_plugins.study.store.codes import digest, salted, withdrawal_code
from charpy_plugins.study.store.connect import READING, WAIT
from charpy_plugins.study.store.draw import drawn_questions
from charpy_plugins.study.store.erase import erase, scrub
from charpy_plugins.study.store.opening import opened
from charpy_plugins.study.store.outcomes import Admission, Question, Refused
from charpy_plugins.study.store.overview import Measure
from charpy_plugins.study.store.records import Arm, as_participant
from charpy_plugins.study.store.tables import answers, meta, participants, questions

__all__ = ["Admission", "Question", "Refused", "Store"]


class Store:
    """An open answers database of one study. Thread-safe; every method that writes is one transaction.

    Args:
        engine: of `connect`.
        document: the study.
        clock: seconds since 1970.
    """

    def __init__(self, engine: Engine, document: StudyDocument, clock: Callable[[], float] = time.time) -> None:
        self._engine, self.document, self._clock = engine, document, clock
        self._turn = threading.Lock()
        with self._reading() as db:
            facts = {str(key): str(value) for key, value in db.execute(select(meta.c.key, meta.c.value))}
        self.simulated = facts["simulated"]
        self.secret = facts["secret"]
        self._salt = facts["salt"].encode()
        self._stimuli = frozenset(stimulus.id for stimulus in document.stimuli)

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
            Refused: another consent text, a person who is here already by another visit, a paused study, or every
                condition is full.
        """
        if consent_version != self.document.texts.consent.version:
            raise Refused("consent", 400, "The consent form has changed. Please read it again.")
        with self._writing(alone=True) as db:
            if person:
                known = queries.known(db, salted(self._salt, person))
                if known is not None:
                    return self._back(db, known, visit)
            now, cut = self._clock(), self._cut()
            condition = queries.free_condition(db, self.document, cut, per_condition)
            found = Participant(
                secrets.token_hex(16), condition, State.STARTED, visible(consent_version), now, now, None
            )
            token = secrets.token_urlsafe(32)
            hashes = {
                "person": salted(self._salt, person) if person else None,
                "visit": salted(self._salt, visit) if visit else None,
                "token": digest(token),
                "code": digest(self.code(found.id)),
            }
            db.execute(insert(participants).values(**found._asdict(), **hashes))
            rows = drawn_questions(self.document, condition, queries.given(db, condition, cut))
            db.execute(insert(questions), [{"participant": found.id, **row._asdict()} for row in rows])
        return Admission(token, found)

    def closed(self, per_condition: int | None = None, person: str = "") -> Refused | None:
        """Why newcomers cannot join now; None where they can, or where a person has joined before."""
        with self._reading() as db:
            if person and queries.known(db, salted(self._salt, person)) is not None:
                return None
            try:
                queries.free_condition(db, self.document, self._cut(), per_condition)
            except Refused as why:
                return why
        return None

    def participant(self, token: str) -> Participant | None:
        """Whose cookie this is."""
        with self._reading() as db:
            row = db.execute(select(participants).where(participants.c.token == digest(token))).one_or_none()
        return None if row is None else as_participant(row)

    def question(self, participant: Participant) -> Question | None:
        """What to answer next; None where all is answered. Its first showing is noted.

        Raises:
            Refused: withdrawn since.
        """
        with self._writing() as db:
            self._still_here(db, participant)
            row = queries.next_question(db, participant.id)
            if row is None:
                return None
            now, own = self._clock(), questions.c.participant == participant.id
            here = own & (questions.c.position == row.position)
            if row.shown is None:
                db.execute(update(questions).where(here).values(shown=now))
            db.execute(update(participants).where(participants.c.id == participant.id).values(seen=now))
            total = db.execute(select(func.count()).select_from(questions).where(own)).scalar_one()
        return Question(row.position, total, row.stimulus, row.asked)

    def shows(self, participant: Participant, stimulus: str) -> bool:
        """Whether the image is one of this participant's."""
        if stimulus not in self._stimuli:  # whatever was typed; PostgreSQL takes no NUL, nobody takes half a character
            return False
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
            self._still_here(db, participant)
            row = queries.next_question(db, participant.id)
            if row is None or position < row.position:
                raise Refused("replayed", 409, "This question has been answered already.")
            if position != row.position:
                raise Refused("out of order", 409, "This is not the next question.")
            now = self._clock()
            seconds = max(0.0, now - (row.shown if row.shown is not None else now))
            values = {"label": label, "confidence": confidence, "seconds": seconds, "answered": now}
            db.execute(insert(answers).values(participant=participant.id, position=position, **values))
            last = queries.next_question(db, participant.id) is None
            done = {"state": State.FINISHED, "finished": now} if last else {}
            db.execute(update(participants).where(participants.c.id == participant.id).values(seen=now, **done))
        return last

    def code(self, participant: str) -> str:
        """The code for withdrawal, 16 characters in groups of four; it is kept as a hash only."""
        return withdrawal_code(self._salt, participant)

    def withdraw(self, code: str) -> None:
        """Erase the answers of whose code this is, and what could tell who it was, see `erase`.

        Raises:
            Refused: nobody has this code.
        """
        with self._writing() as db:
            erase(db, code)
        scrub(self._engine)

    def note(self, kind: str, detail: str = "", participant: str | None = None, *, refused: bool = False) -> None:
        """Keep an event: one word, and at most 200 characters that name nobody; what is hidden in them shows.

        Of somebody who did not agree only the day is kept: a time could be held against the list of a panel.
        """
        with self._writing() as db:
            records.note(db, self._clock(), kind, detail, participant, refused=refused)

    # --- what a researcher does and reads

    def pause(self, paused: bool) -> None:
        """Take no newcomers, or take them again; whoever has joined goes on."""
        with self._writing(alone=True) as db:
            db.execute(delete(meta).where(meta.c.key == "paused"))
            db.execute(insert(meta).values(key="paused", value="yes" if paused else "no"))

    @property
    def paused(self) -> bool:
        """Whether newcomers are turned away."""
        with self._reading() as db:
            return queries.paused(db)

    def measures(self) -> list[Measure]:
        """What the answers of each condition are like, in the order of the study."""
        with self._reading() as db:
            return overview.measures(db, self.document)

    def progress(self) -> list[Arm]:
        """How far each condition is, in the order of the study."""
        with self._reading() as db:
            return records.progress(db, self.document, self._cut())

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

    def _cut(self) -> float:
        """Who was last seen before this has dropped out."""
        return self._clock() - 60 * self.document.dropout_minutes

    def _still_here(self, db: Connection, participant: Participant) -> None:
        if not queries.still_here(db, participant.id):
            raise Refused("withdrawn", 410, "You have withdrawn from this study. Your answers are deleted.")

    def _back(self, db: Connection, known: Row[Any], visit: str) -> Admission:
        if known.visit is None or not visit or not hmac.compare_digest(known.visit, salted(self._salt, visit)):
            raise Refused("taken part", 409, "You have taken part in this study already.")
        token = secrets.token_urlsafe(32)
        db.execute(update(participants).where(participants.c.id == known.id).values(token=digest(token)))
        return Admission(token, as_participant(known))

    @contextmanager
    def _writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction that is on disk when the block has been left.

        SQLite has one writer at a time: within the process they take turns in the order in which they came, and other
        processes wait. Elsewhere whoever changes a participant has locked their row, and who must be `alone` another.
        """
        one_writer = self._engine.dialect.name == "sqlite"
        if one_writer and not self._turn.acquire(timeout=WAIT):
            raise Waited(f"no turn to write within {WAIT} seconds")
        try:
            with self._engine.begin() as db:
                if alone and not one_writer:
                    db.execute(select(meta.c.value).where(meta.c.key == "format").with_for_update())
                yield db
        finally:
            if one_writer:
                self._turn.release()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One snapshot, whatever is written meanwhile."""
        snapshot = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._engine.connect().execution_options(**{READING: True}, **snapshot) as db:
            yield db
