"""Which condition a participant gets, and which questions: what has been given least comes first."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from charpy_plugins.study.document import StudyDocument

_random = secrets.SystemRandom()
"""Nobody can foresee a draw; what was drawn is kept, so it need not be repeatable."""


class Shown(NamedTuple):
    """One thing that is shown: a stimulus, or with `asked` an attention check that names the label to choose."""

    position: int
    stimulus: str
    asked: int | None


def chosen_condition(document: StudyDocument, filled: Mapping[str, int], limit: int | None = None) -> str | None:
    """The condition with the fewest participants, one of them at random where several are; None where all are full."""
    counts = {condition.name: filled.get(condition.name, 0) for condition in document.conditions}
    fewest = min(counts.values())
    if limit is not None and fewest >= limit:
        return None
    return _random.choice([name for name, count in counts.items() if count == fewest])


def drawn_questions(document: StudyDocument, condition: str, seen: Mapping[str, int]) -> list[Shown]:
    """The stimuli that were given least so far, in random order, with attention checks anywhere but first."""
    stimuli = [stimulus.id for stimulus in document.of(condition)]
    _random.shuffle(stimuli)
    chosen = sorted(stimuli, key=lambda stimulus: seen.get(stimulus, 0))[: document.questions]
    _random.shuffle(chosen)
    rows: list[tuple[str, int | None]] = [(stimulus, None) for stimulus in chosen]
    for _ in range(document.checks):
        check = (_random.choice(stimuli), _random.randrange(len(document.labels)))
        rows.insert(_random.randint(1, len(rows)), check)
    return [Shown(position, *row) for position, row in enumerate(rows)]
