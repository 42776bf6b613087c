"""Populations without a difference between two conditions, for study_errors.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from charpy_plugins.study.analysis.trials import Table

CUTS = np.array([-2.6, -1.6, -0.6, 0.6])
"""Latent confidence, cut in five."""


@dataclass(frozen=True)
class Population:
    """Two conditions without a difference: participants, mean log odds, and three standard deviations on that scale."""

    first: int
    second: int
    mean: float
    ability: float = 1.2
    difficulty: float = 0.8
    reaction: float = 0.0
    images: int = 75
    questions: int = 25

    def tables(self, random: np.random.Generator, studies: int, shift: float = 0.0) -> dict[str, tuple[Table, Table]]:
        """Accuracy and confidence of `studies` studies, `(studies, P, images)` each; `shift` is of the second mean."""
        difficulty = random.normal(0, self.difficulty, (studies, 1, self.images))
        right, sure = [], []
        for people, moved in ((self.first, 0.0), (self.second, shift)):
            shape = (studies, people, self.images)
            ability = random.normal(0, self.ability, (studies, people, 1))
            eased = ability + difficulty + random.normal(0, self.reaction, (studies, 1, self.images))
            count = np.zeros(shape)
            np.put_along_axis(count, random.random(shape).argsort(-1)[..., : self.questions], 1.0, -1)
            correct = random.random(shape) < expit(self.mean + moved + eased)
            confidence = 1 + np.digitize(eased / 2 + random.normal(0.8, 1, shape), CUTS)
            right.append(Table(correct * count, count))
            sure.append(Table(confidence * count, count))
        return {"accuracy": (right[0], right[1]), "confidence": (sure[0], sure[1])}

    def row(self) -> tuple[str, ...]:
        """Its cells in a table."""
        spreads = f"{self.ability:g} / {self.difficulty:g} / {self.reaction:g}"
        people = f"{self.first} + {self.second}"
        if self.images != 75:
            people += f", {self.questions} of {self.images} images"
        return people, f"{100 * self.level():.0f} %", spreads

    def level(self) -> float:
        """The mean accuracy, by a large sample."""
        spread = (self.ability**2 + self.difficulty**2 + self.reaction**2) ** 0.5
        return float(expit(self.mean + spread * norm.ppf((np.arange(9999) + 0.5) / 9999)).mean())


NULL = (
    Population(73, 59, 3.9),
    Population(73, 69, 3.9),
    Population(25, 38, 3.9),
    Population(25, 36, 3.9),
    Population(36, 31, 3.0),
    Population(25, 38, 5.0, 2.0),
    Population(25, 38, 0.3),
    Population(10, 40, 3.9),
    Population(73, 59, 3.9, reaction=0.8),
    Population(25, 38, 0.3, reaction=0.8),
)
