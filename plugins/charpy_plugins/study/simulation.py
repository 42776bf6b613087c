"""A simulated population: answers with a truth that is known, to plan a study and to test its analysis. Not people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import NamedTuple

import numpy as np

from charpy.errors import SpecError, unknown_name
from charpy_plugins.study.calibration import Floats
from charpy_plugins.study.document import Condition, StudyDocument
from charpy_plugins.study.habits import Drawn, Flags, Habits, Integers, draw, stream
from charpy_plugins.study.responses import Answer, Participant, Responses, State

EPOCH = 1_000_000_000.0
"""When the first simulated participant joins: 2001, long before any study."""

CONFIDENCE = 4.0
"""Mean confidence of a condition for which none is given."""


def population(
    document: StudyDocument,
    accuracies: Mapping[str, float],
    participants: Mapping[str, int] | int,
    *,
    seed: int,
    confidences: Mapping[str, float] | None = None,
    habits: Habits | None = None,
    **changed: float,
) -> Responses:
    """The answers of a simulated population; the same arguments give the same answers.

    Args:
        document: the study.
        accuracies: by condition, the mean accuracy of attentive people on its images as they are, in [0, 1].
        participants: of each condition, or by condition.
        seed: at least 0.
        confidences: by condition, mean confidence of attentive people, 1 to 5; `CONFIDENCE` where there is none.
        habits: the rest; `changed` names single ones, such as `spread=0.5`.

    Raises:
        SpecError: a condition without accuracy, or a number out of its range.
        UnknownNameError: of no condition, or a habit that there is not.
    """
    means = dict.fromkeys((one.name for one in document.conditions), CONFIDENCE) | dict(confidences or {})
    counts = (
        participants if isinstance(participants, Mapping) else {one.name: participants for one in document.conditions}
    )
    _check(document, accuracies, counts, means, seed)
    habits = _with(habits or Habits(), changed)
    people: list[Participant] = []
    answers: list[Answer] = []
    for condition in document.conditions:
        drawn = draw(document, condition, accuracies[condition.name], counts[condition.name],
                     seed=seed, confidence=means[condition.name], habits=habits)  # fmt: skip
        found = _told(document, condition, drawn, seed)
        people += found[0]
        answers += found[1]
    return Responses(tuple(people), tuple(answers), _named(document, accuracies, counts, means, seed, habits))


class _Visits(NamedTuple):
    """When `n` participants come, and what they see at each of `asked` places; the fields are arrays."""

    joined: Floats
    begun: Floats
    is_check: Flags
    wanted: Integers
    missed: Integers
    shown: Integers


def _visits(document: StudyDocument, condition: Condition, drawn: Drawn, seed: int) -> _Visits:
    random = stream(seed, "visits", condition.name)
    labels, stimuli = len(document.labels), max(1, len(document.of(condition.name)))
    people, asked = drawn.seconds.shape
    checks = asked - drawn.stimulus.shape[1]
    is_check = np.zeros(asked, dtype=bool)
    is_check[[(place + 1) * asked // (checks + 1) for place in range(checks)]] = True
    joined = EPOCH + np.cumsum(random.exponential(90.0, people))
    begun = joined + random.lognormal(np.log(30.0), 0.4, people)
    wanted = random.integers(labels, size=(people, asked))
    missed = (wanted + random.integers(1, labels, size=(people, asked))) % labels
    return _Visits(joined, begun, is_check, wanted, missed, random.integers(stimuli, size=(people, asked)))


def _told(
    document: StudyDocument, condition: Condition, drawn: Drawn, seed: int
) -> tuple[list[Participant], list[Answer]]:
    """The participants of a condition and their answers, questions and checks in the order shown."""
    visits = _visits(document, condition, drawn, seed)
    people, asked = drawn.seconds.shape
    times = visits.begun[:, None] + np.cumsum(drawn.seconds, axis=1)
    found: list[Participant] = []
    answers: list[Answer] = []
    for row in range(people):
        identity = "sim" + hashlib.sha256(f"{seed}/{condition.name}/{row}".encode()).hexdigest()[:13]
        kept = int(drawn.kept[row])
        last = float(times[row, kept - 1] if kept else visits.begun[row])
        state, end = (State.FINISHED, last) if kept == asked else (State.STARTED, None)
        version = document.texts.consent.version
        found.append(Participant(identity, condition.name, state, version, float(visits.joined[row]), last, end))
        answers += _answers(document, condition, drawn, visits, times, row, identity)
    return found, answers


def _answers(
    document: StudyDocument, condition: Condition, drawn: Drawn, visits: _Visits, times: Floats, row: int, identity: str
) -> Iterator[Answer]:
    stimuli = document.of(condition.name)
    question = check = 0
    for place in range(int(drawn.kept[row])):
        is_check = bool(visits.is_check[place])
        if is_check:
            one = stimuli[visits.shown[row, place]]
            truth = int(visits.wanted[row, place])
            label, sure = truth if drawn.passed[row, check] else int(visits.missed[row, place]), 5
            check += 1
        else:
            one = stimuli[drawn.stimulus[row, question]]
            truth, label, sure = one.label, int(drawn.label[row, question]), int(drawn.confidence[row, question])
            question += 1
        seconds, answered = float(drawn.seconds[row, place]), float(times[row, place])
        yield Answer(
            identity, condition.name, place, one.id, one.original, truth, label, sure, seconds, answered, is_check
        )


def _check(
    document: StudyDocument,
    accuracies: Mapping[str, float],
    counts: Mapping[str, int],
    means: Mapping[str, float],
    seed: int,
) -> None:
    names = [condition.name for condition in document.conditions]
    given: list[tuple[str, Mapping[str, float], float, float]] = [
        ("accuracies", accuracies, 0, 1),
        ("participants", counts, 0, 1_000_000),
        ("confidences", means, 1, 5),
    ]
    for where, values, low, high in given:
        for name, value in values.items():
            if name not in names:
                raise unknown_name("condition", name, names, where=where)
            if not low <= value <= high:
                raise SpecError("out of range", where=f"{where}, {name}", found=value, expected=f"{low} to {high:,}")
        if missing := [name for name in names if name not in values]:
            raise SpecError("a condition without a number", where=where, found=f"none for {missing[0]}",
                            expected=f"one for each of {', '.join(names)}")  # fmt: skip
    if seed < 0:
        raise SpecError("out of range", where="seed", found=seed, expected="0 or more")
    for name in names:
        if counts[name] and not document.of(name):
            raise SpecError(
                "a condition without images", where=f"participants, {name}", found=counts[name], expected="0"
            )


def _with(habits: Habits, changed: Mapping[str, float]) -> Habits:
    known = asdict(habits)
    for name in changed:
        if name not in known:
            raise unknown_name("habit", name, known, where="population")
    return Habits(**(known | dict(changed)))


def _named(
    document: StudyDocument, accuracies: Mapping[str, float], counts: Mapping[str, int], means: Mapping[str, float],
    seed: int, habits: Habits,
) -> str:  # fmt: skip
    """The population in one line, as every page that is made of it says; habits where they are not the usual ones."""

    def listed(values: Mapping[str, float]) -> str:
        return ", ".join(f"{values[condition.name]:g}" for condition in document.conditions)

    usual = Habits()
    main = f"accuracies {listed(accuracies)}; participants {listed(counts)}; confidences {listed(means)}"
    other = {field.name: getattr(habits, field.name) for field in fields(habits)}
    changed = "".join(f"; {name} {value:g}" for name, value in other.items() if value != getattr(usual, name))
    return f"{main}{changed}; seed {seed}"
