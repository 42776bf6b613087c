"""The tables of an answers database. No address, no name: a person of a panel is a salted hash, or nothing at all."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text

FORMAT = "charpy-answers-1"

schema = MetaData()

meta = Table("meta", schema, Column("key", String(40), primary_key=True), Column("value", Text, nullable=False))

participants = Table(
    "participants",
    schema,
    Column("id", String(32), primary_key=True),
    Column("condition", String(40), nullable=False),
    Column("state", String(12), nullable=False),
    Column("person", String(64), unique=True),  # salted hash of the panel's id; NULL without a panel, or withdrawn
    Column("visit", String(64)),  # salted hash of the panel's session: only who has it may come back without a cookie
    Column("token", String(64), unique=True),  # hash of what the cookie holds
    Column("code", String(64), unique=True),  # hash of the code for withdrawal
    Column("consent_version", Text, nullable=False),
    Column("joined", Double, nullable=False),  # when consent was given, seconds since 1970
    Column("seen", Double, nullable=False),
    Column("finished", Double),
)

questions = Table(
    "questions",
    schema,
    Column("participant", String(32), ForeignKey("participants.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("stimulus", String(16), nullable=False),
    Column("asked", Integer),  # of an attention check, the label that is asked for
    Column("shown", Double),
)

answers = Table(
    "answers",
    schema,
    Column("participant", String(32), ForeignKey("participants.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("label", Integer, nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("answered", Double, nullable=False),
)

events = Table(
    "events",
    schema,
    Column("event", Integer, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("participant", String(32)),
    Column("detail", String(200), nullable=False),
    Column("refused", Boolean, nullable=False),
)

Index("questions_by_stimulus", questions.c.stimulus)
