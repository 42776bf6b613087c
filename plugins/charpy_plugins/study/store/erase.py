"""Withdrawal: what a participant gave is erased from the tables, and from the bytes of an SQLite file."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from charpy_plugins.study.responses import State
from charpy_plugins.study.store.codes import digest, tidy
from charpy_plugins.study.store.outcomes import Refused
from charpy_plugins.study.store.tables import answers, events, participants, questions

DAY: Final = 86_400.0
"""Seconds; of who withdrew only the day of joining stays, which no list of a panel can be held against."""


def erase(db: Connection, code: str) -> None:
    """Erase the answers of whose code this is, and what could tell who it was; condition, consent and day stay.

    Raises:
        Refused: nobody has this code.
    """
    own = participants.c.code == digest(tidy(code))
    found = db.execute(select(participants.c.id, participants.c.joined).where(own).with_for_update()).one_or_none()
    if found is None:
        raise Refused("unknown code", 404, "Nobody has this code. Please check it letter by letter.")
    for table in (answers, questions, events):
        db.execute(delete(table).where(table.c.participant == found.id))
    day = found.joined - found.joined % DAY
    erased = dict.fromkeys(("person", "visit", "token", "code", "finished"))
    db.execute(update(participants).where(own).values(state=State.WITHDRAWN, joined=day, seen=day, **erased))


def scrub(engine: Engine) -> None:
    """Empty SQLite's write-ahead log, which keeps pages as they were before; `secure_delete` has seen to the file.

    What was erased is erased whether or not this succeeds: a reader who takes too long leaves the log to the next
    withdrawal, or to the end of the server. Other databases have no such file of ours.
    """
    if engine.dialect.name != "sqlite":
        return
    try:
        connection = engine.raw_connection()
        try:
            busy = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.close()
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as cause:
        logging.getLogger(__name__).error("the log of the answers could not be emptied: %s", type(cause).__name__)
    else:
        if busy:
            logging.getLogger(__name__).warning("the log of the answers is being read, and is emptied later")
