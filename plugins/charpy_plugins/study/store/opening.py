"""Opening an answers database: it is one, it is of this study, and made-up answers stay apart from those of people."""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from charpy.errors import CharpyError, DataError, IdentityError
from charpy.reports.inert import visible
from charpy_plugins.study.addresses import shown_address
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.store.connect import READING, address, connect
from charpy_plugins.study.store.tables import FORMAT, meta, schema

PREVIEW = "preview"
"""What `simulated` says of the answers that somebody gave while trying the study out."""

_MAKING = 0x43484152
"""The key of PostgreSQL's lock while the tables are made."""


def opened(where: str | Path, document: StudyDocument, *, create: bool, simulated: str) -> Engine:
    """See `Store.open`."""
    url = address(where)
    shown = shown_address(str(where))
    if url.drivername == "sqlite" and not create and not Path(str(url.database)).is_file():
        hint = "`charpy study serve STUDY` collects answers; `charpy study simulate STUDY` makes some up"
        raise DataError("no answers are here", where=str(url.database), hint=hint)
    engine = connect(url)
    try:
        if url.drivername == "sqlite" and create:
            Path(str(url.database)).touch(mode=0o600)  # it holds secrets; what SQLite writes beside it follows
        facts = _facts(engine, document, simulated, create)
        _check(facts, document, simulated, create, shown)
    except OSError as cause:
        engine.dispose()
        raise DataError("the answers database cannot be made", where=shown, found=cause.strerror) from None
    except DBAPIError as cause:
        engine.dispose()
        found = str(cause.orig).strip().splitlines()[0]
        raise DataError(
            "the answers database cannot be used",
            where=shown,
            found=shown_address(found),
            expected="a file that `charpy study serve` made, or a PostgreSQL database that can be reached",
            hint="a file of answers, as `charpy study simulate` writes, is read where its name ends in .json",
        ) from None
    except CharpyError:
        engine.dispose()
        raise
    return engine


def _facts(engine: Engine, document: StudyDocument, simulated: str, create: bool) -> dict[str, str]:
    """What the database says of itself; made first where it is empty."""
    if not create:
        with engine.connect().execution_options(**{READING: True}) as db:
            return _told(db)
    with engine.begin() as db:
        if db.dialect.name == "postgresql":  # of two servers that start at once, one makes the tables
            db.execute(select(func.pg_advisory_xact_lock(_MAKING)))
        if inspect(db).get_table_names():
            return _told(db)
        schema.create_all(db)
        facts = {
            "format": FORMAT,
            "study": document.fingerprint,
            "name": visible(document.name),
            "simulated": simulated,
            "salt": secrets.token_hex(32),
            "secret": secrets.token_hex(32),
        }
        db.execute(insert(meta), [{"key": key, "value": value} for key, value in facts.items()])
        return facts


def _told(db: Connection) -> dict[str, str]:
    if meta.name not in inspect(db).get_table_names():
        return {}
    return {str(key): str(value) for key, value in db.execute(select(meta.c.key, meta.c.value))}


def _check(facts: dict[str, str], document: StudyDocument, simulated: str, create: bool, shown: str) -> None:
    if facts.get("format", FORMAT) != FORMAT:
        hint = "use the version of charpy that wrote it"
        raise DataError("answers in another format", where=shown, found=facts["format"], expected=FORMAT, hint=hint)
    if "format" not in facts:
        raise DataError("no answers database", where=shown, found="other tables, or none", expected=FORMAT)
    if facts["study"] != document.fingerprint:
        raise IdentityError(
            "these answers are of another study, or of this one before it was changed",
            where=shown,
            found=f"{facts['name']!r}, {facts['study'][:16]}",
            expected=f"{document.name!r}, {document.fingerprint[:16]}",
            hint="give the study file that was served, or other answers: --answers",
        )
    preview = PREVIEW in (facts["simulated"], simulated) and facts["simulated"] != simulated
    if create and (preview or bool(facts["simulated"]) != bool(simulated)):
        raise IdentityError(
            "made-up answers and those of people do not share a database",
            where=shown,
            found=_kind(facts["simulated"]),
            expected=_kind(simulated),
            hint="give another one: --answers",
        )


def _kind(simulated: str) -> str:
    return {"": "answers of people", PREVIEW: "answers of a preview"}.get(simulated, "made-up answers")
