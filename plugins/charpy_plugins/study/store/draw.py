"""Which condition a participant gets, and which questions: what has been given least comes first."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from charpy_plugins.study.document import Stimulus, StudyDocument

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
    """The stimuli that were given least so far, in random order, with attention checks anywhere but first.

    An attention check shows an image of the condition that is no question of this participant's, as long as there is
    one; and never asks for a label that one could choose because of the image: neither its class nor what the model
    says of it, where the study has a third label.
    """
    stimuli = list(document.of(condition))
    _random.shuffle(stimuli)
    stimuli.sort(key=lambda stimulus: seen.get(stimulus.id, 0))
    chosen = stimuli[: document.questions]
    _random.shuffle(chosen)
    rows: list[tuple[Stimulus, int | None]] = [(stimulus, None) for stimulus in chosen]
    for stimulus in _images_of_checks(stimuli, chosen, document.checks):
        earliest = 1 + max((place for place, row in enumerate(rows) if row[0] is stimulus), default=0)
        rows.insert(_random.randint(min(earliest, len(rows)), len(rows)), (stimulus, _asked(document, stimulus)))
    return [Shown(position, stimulus.id, asked) for position, (stimulus, asked) in enumerate(rows)]


def _images_of_checks(stimuli: Sequence[Stimulus], chosen: Sequence[Stimulus], number: int) -> list[Stimulus]:
    """Images of originals that the participant does not see as questions; then of those that they do."""
    originals = {stimulus.original for stimulus in chosen}
    spare = [stimulus for stimulus in stimuli if stimulus.original not in originals]
    _random.shuffle(spare)
    again = list(chosen)
    _random.shuffle(again)
    order = spare + again
    return [order[place % len(order)] for place in range(number)] if order else []


def _asked(document: StudyDocument, stimulus: Stimulus) -> int:
    """A label that says nothing of the image."""
    labels = range(len(document.labels))
    neither = [label for label in labels if label not in (stimulus.label, stimulus.prediction)]
    return _random.choice(neither or [label for label in labels if label != stimulus.label])
