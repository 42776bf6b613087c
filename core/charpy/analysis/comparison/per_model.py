"""What a comparison shows of each row on its own: areas, classes, agreement of the norms, curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charpy.analysis.agreement import agreement_parts
from charpy.analysis.comparison.document import CurvePart, EntryAgreement, EntryArea, EntryClass, PointPart
from charpy.analysis.comparison.entries import Entry
from charpy.analysis.comparison.rates import rate
from charpy.analysis.curves import auc_part, searched_auc_part
from charpy.analysis.document import ClassPart
from charpy.analysis.outcomes import smallest_levels
from charpy.analysis.per_class import class_parts
from charpy.outcome import Outcome
from charpy.threat import DUAL, FIRST_LEVEL, LAST_LEVEL

DRAWN = 256
"""Of a range longer than 1..127, about so many levels are kept, evenly spaced on a logarithmic axis."""

JUDGED = (Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN)


def areas(entries: Sequence[Entry]) -> tuple[EntryArea, ...]:
    """Area under the curve of surviving samples, of those rows only whose every level is known (Table V).

    Over the samples that are broken, held or proven at every level: one that is invalid is neither standing nor broken.
    """
    parts = []
    for entry in entries:
        for norm, outcomes in entry.outcomes.items():
            found = entry.found[norm]
            if not entry.reached(norm).issuperset(outcomes.levels):
                continue
            judged = np.flatnonzero(outcomes.mask(*JUDGED).all(axis=1))
            if found.search:
                part = searched_auc_part(outcomes.of(judged), entry.evidence[norm].of(judged), len(judged))
            else:
                part = auc_part(outcomes.of(judged), len(judged), found.last)
            if part is not None and part.whole_range:
                parts.append(EntryArea(entry=entry.title, **part.model_dump()))
    return tuple(parts)


def classes(entries: Sequence[Entry]) -> tuple[EntryClass, ...]:
    """Adversarial accuracy of each true class at every level that is shown (Figure 3)."""
    return tuple(
        EntryClass(entry=entry.title, **(part if part.th in entry.reached(norm) else _unknown(part)).model_dump())
        for entry in entries
        for norm, outcomes in entry.outcomes.items()
        for part in class_parts(
            outcomes.at(entry.found[norm].shown), entry.labels, entry.assessment.dataset.class_names
        )
    )


def _unknown(part: ClassPart) -> ClassPart:
    return part.model_copy(update={"adversarial_accuracy": None})


def agreement(entries: Sequence[Entry]) -> tuple[EntryAgreement, ...]:
    """Samples broken under only one norm, both, or neither, of rows that were assessed under both (Figure 5)."""
    return tuple(
        EntryAgreement(entry=entry.title, **part.model_dump())
        for entry in entries
        if entry.outcomes.keys() >= set(DUAL)
        for part in agreement_parts(*(entry.outcomes[norm].at(_shown(entry, norm)) for norm in DUAL))
    )


def _shown(entry: Entry, norm: str) -> list[int]:
    """The levels that the report shows, those that every sample reached."""
    reached = entry.reached(norm)
    return [th for th in entry.found[norm].shown if th in reached]


def curves(entries: Sequence[Entry]) -> tuple[CurvePart, ...]:
    """Adversarial accuracy over th, of rows with at least two levels under a norm (Figure 6)."""
    parts = [_curve(entry, norm) for entry in entries for norm in entry.outcomes]
    return tuple(part for part in parts if len(part.points) > 1)


def _curve(entry: Entry, norm: str) -> CurvePart:
    found, outcomes = entry.found[norm], entry.outcomes[norm]
    if not found.search or not entry.finished:
        outcomes = outcomes.at(_shown(entry, norm))
        broken, judged = outcomes.counts(Outcome.BROKEN), outcomes.counts(*JUDGED)
        counts = list(zip(outcomes.levels, broken, judged, strict=True))
    else:
        smallest = np.sort(smallest_levels(entry.evidence[norm])[outcomes.mask(*JUDGED)[:, -1]])
        levels = _every_level(found.last)
        reached = np.searchsorted(smallest, levels, side="right").tolist()
        counts = [(th, hits, len(smallest)) for th, hits in zip(levels, reached, strict=True)]
    points = tuple(PointPart(th=th, broken=rate(hits, total)) for th, hits, total in counts)
    return CurvePart(entry=entry.title, norm=norm, searched=found.search, points=points)


def _every_level(last: int) -> list[int]:
    if last <= LAST_LEVEL:
        return list(range(FIRST_LEVEL, last + 1))
    drawn: list[int] = np.unique(np.geomspace(FIRST_LEVEL, last, DRAWN).round().astype(np.int64)).tolist()
    return drawn
