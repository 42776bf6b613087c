"""What the answers of each condition are like while a study runs; nothing here says how well anybody does."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.store.tables import answers, participants, questions


class Measure(NamedTuple):
    """Answers to the questions of one condition, attention checks apart.

    Attributes:
        condition: its name.
        stimuli: how many it has.
        fewest: answers of the stimulus with the fewest of them; `middle` the median, `most` the other end.
        seconds: median time of an answer; None without any.
        checks: attention checks that were answered, `failed` of them with another label than was asked for.
    """

    condition: str
    stimuli: int
    fewest: int
    middle: float
    most: int
    seconds: float | None
    checks: int
    failed: int


def measures(db: Connection, document: StudyDocument) -> list[Measure]:
    """What the answers of each condition are like, in the order of the study."""
    here = (questions.c.participant == answers.c.participant) & (questions.c.position == answers.c.position)
    joined = answers.join(questions, here).join(participants, participants.c.id == answers.c.participant)
    times: dict[str, list[float]] = defaultdict(list)
    given: dict[str, int] = {}
    plain = select(participants.c.condition, questions.c.stimulus, answers.c.seconds).select_from(joined)
    for condition, stimulus, seconds in db.execute(plain.where(questions.c.asked.is_(None))):
        times[condition].append(seconds)
        given[stimulus] = given.get(stimulus, 0) + 1
    wrong = questions.c.asked != answers.c.label
    count = select(participants.c.condition, wrong, func.count()).select_from(joined)
    checks = count.where(questions.c.asked.is_not(None)).group_by(participants.c.condition, wrong)
    failed = {(name, bool(failed)): number for name, failed, number in db.execute(checks)}
    rows = []
    for name in (condition.name for condition in document.conditions):
        numbers = [given.get(stimulus.id, 0) for stimulus in document.of(name)] or [0]
        late = failed.get((name, True), 0)
        rows.append(
            Measure(
                condition=name,
                stimuli=len(document.of(name)),
                fewest=min(numbers),
                middle=median(numbers),
                most=max(numbers),
                seconds=median(times[name]) if times[name] else None,
                checks=late + failed.get((name, False), 0),
                failed=late,
            )
        )
    return rows
