"""Adversarial accuracy of each true class (Kotyan & Vargas 2020, section V-E, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charpy.analysis.document import ClassPart
from charpy.analysis.intervals import ratio
from charpy.analysis.outcomes import Ints, Outcomes
from charpy.outcome import Outcome


def class_parts(outcomes: Outcomes, labels: Ints, class_names: Sequence[str]) -> tuple[ClassPart, ...]:
    """One part per level and class that occurs among `labels` `(S,)`, levels outermost.

    A label without a name in `class_names` is named by its number.
    """
    broken = outcomes.mask(Outcome.BROKEN)
    judged = outcomes.mask(Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN)
    classes, index = np.unique(labels, return_inverse=True)
    parts = []
    for column, th in enumerate(outcomes.levels):
        samples = np.bincount(index[judged[:, column]], minlength=len(classes))
        hits = np.bincount(index[broken[:, column]], minlength=len(classes))
        parts += [
            ClassPart(
                norm=outcomes.norm,
                th=th,
                label=int(label),
                name=class_name(int(label), class_names),
                samples=int(of_class),
                broken=int(hit),
                adversarial_accuracy=ratio(int(hit), int(of_class)),
            )
            for label, of_class, hit in zip(classes, samples, hits, strict=True)
        ]
    return tuple(parts)


def class_name(label: int, class_names: Sequence[str]) -> str:
    """The name of a class, or its number when it has none."""
    return class_names[label] if 0 <= label < len(class_names) else str(label)
