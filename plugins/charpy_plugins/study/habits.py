"""How simulated people answer: abilities, difficulties, wrong answers, confidence, checks, times; as arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.errors import SpecError
from charpy_plugins.study.calibration import CUTS, Floats, chance, confidence_level, intercept
from charpy_plugins.study.document import Condition, Stimulus, StudyDocument

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Habits:
    """How simulated people differ, answer and behave.

    Attributes:
        spread: standard deviation of ability between people, logits.
        difficulty: standard deviation of difficulty between images, logits.
        shared: share of the variance of difficulty that the images of one original have in common.
        misled: of the wrong answers to an image that the model gets wrong, those that are the model's own; the others
            are uniform over the other labels.
        careless: share of people who answer at random, labels, confidence and checks, and fast.
        dropout: share of people who leave before their last question; when, is uniform.
        slip: share of attention checks that attentive people fail.
        tie: points of latent confidence between right and wrong answers of one person.
        person: standard deviation of latent confidence between people, points.
        noise: standard deviation of latent confidence between answers of one person, points.
        seconds: median time of an attentive answer; the logarithm is normal with standard deviation `haste`.
        careless_seconds: median time of a careless one.
        haste: standard deviation of the logarithm of the time.
    """

    spread: float = 1.0
    difficulty: float = 1.0
    shared: float = 0.5
    misled: float = 0.8
    careless: float = 0.0
    dropout: float = 0.0
    slip: float = 0.01
    tie: float = 0.8
    person: float = 0.5
    noise: float = 0.8
    seconds: float = 10.0
    careless_seconds: float = 1.0
    haste: float = 0.5

    def __post_init__(self) -> None:
        shares = ("shared", "misled", "careless", "dropout", "slip")
        for field in fields(self):
            value = getattr(self, field.name)
            name = field.name.replace("_", "-")
            if not np.isfinite(value):
                raise SpecError("not a number", where=name, found=value)
            if field.name in shares and not 0 <= value <= 1:
                raise SpecError("out of range", where=name, found=value, expected="0 to 1")
            positive = field.name.endswith("seconds") or field.name == "noise"
            if field.name != "tie" and (value < 0 or (positive and value == 0)):
                raise SpecError(
                    "out of range", where=name, found=value, expected="above 0" if positive else "0 or more"
                )


class Drawn(NamedTuple):
    """What the participants of one condition did, n of them with q questions each.

    Attributes:
        stimulus: int64 `(n, q)`, positions in `document.of(condition)`; no image twice for one person.
        label: int64 `(n, q)`.
        confidence: int64 `(n, q)`, 1 to 5.
        careless: bool `(n,)`.
        passed: bool `(n, checks)`.
        seconds: float64 `(n, q + checks)`, of questions and checks in the order in which they are shown.
        kept: int64 `(n,)`, how many of these they answer before they leave; all of them where they stay.
    """

    stimulus: Integers
    label: Integers
    confidence: Integers
    careless: Flags
    passed: Flags
    seconds: Floats
    kept: Integers


def draw(
    document: StudyDocument,
    condition: Condition,
    accuracy: float,
    participants: int,
    *,
    seed: int,
    confidence: float,
    habits: Habits,
) -> Drawn:
    """One condition's answers as arrays; what a condition draws does not depend on the others."""
    stimuli = document.of(condition.name)
    difficulty = _difficulties(document, condition, seed, habits)
    random = stream(seed, "people", condition.name)
    people, questions = participants, min(document.questions, len(stimuli))
    level = intercept(accuracy, difficulty, habits.spread) if stimuli else 0.0
    order = _shown(people, len(stimuli), questions, random)
    effect = habits.spread * random.standard_normal((people, 1)) + difficulty[order]
    right = random.random(order.shape) < chance(level, effect)
    label = np.where(right, _truths(stimuli)[order], _wrong(document, stimuli, order, random, habits))
    sureness = confidence_level(confidence, accuracy, habits.tie, float(np.hypot(habits.person, habits.noise)))
    latent = sureness + habits.tie * (right - accuracy) + habits.person * random.standard_normal((people, 1))
    sure = 1 + (latent + habits.noise * random.standard_normal(order.shape) > CUTS[:, None, None]).sum(axis=0)
    careless = random.random(people) < habits.careless
    label = np.where(careless[:, None], random.integers(len(document.labels), size=order.shape), label)
    sure = np.where(careless[:, None], random.integers(1, 6, size=order.shape), sure)
    asked = questions + document.checks
    failing = np.where(careless, 1 - 1 / len(document.labels), habits.slip)[:, None]
    passed = random.random((people, document.checks)) >= failing
    median = np.where(careless, habits.careless_seconds, habits.seconds)[:, None]
    seconds = median * np.exp(habits.haste * random.standard_normal((people, asked)))
    leaves = random.random(people) < habits.dropout
    kept = np.where(leaves, (random.random(people) * asked).astype(np.int64), asked)
    return Drawn(order, label, sure, careless, passed, seconds, kept)


def _shown(people: int, stimuli: int, questions: int, random: np.random.Generator) -> Integers:
    """Positions `(people, questions)`: each sees those that were shown least so far, in random order, as served."""
    keys = random.random((people, stimuli))
    mixed = random.random((people, questions)).argsort(axis=1)
    seen: Integers = np.zeros(stimuli, dtype=np.int64)
    order: Integers = np.empty((people, questions), dtype=np.int64)
    for person in range(people):
        order[person] = np.lexsort((keys[person], seen))[:questions]
        seen[order[person]] += 1
    return np.take_along_axis(order, mixed, axis=1)


def _difficulties(document: StudyDocument, condition: Condition, seed: int, habits: Habits) -> Floats:
    """Logits `(S,)` of the images of a condition; those of one original share a part of it in every condition."""
    stimuli = document.of(condition.name)
    originals = sorted({stimulus.original for stimulus in document.stimuli})
    common = dict(zip(originals, stream(seed, "originals").standard_normal(len(originals)), strict=True))
    own = stream(seed, "images", condition.name).standard_normal(len(stimuli))
    both = np.sqrt(habits.shared) * np.array([common[one.original] for one in stimuli], dtype=np.float64)
    found: Floats = habits.difficulty * (both + np.sqrt(1 - habits.shared) * own)
    return found


def _truths(stimuli: tuple[Stimulus, ...]) -> Integers:
    return np.array([stimulus.label for stimulus in stimuli], dtype=np.int64)


def _wrong(
    document: StudyDocument, stimuli: tuple[Stimulus, ...], order: Integers, random: np.random.Generator, habits: Habits
) -> Integers:
    """A wrong label for every question: the model's own where it misleads, any other one otherwise."""
    classes = len(document.labels)
    truths = _truths(stimuli)
    said = np.array([-1 if one.prediction is None else one.prediction for one in stimuli], dtype=np.int64)
    fooled = (said != truths) & (said >= 0) & (said < classes)
    other = (truths[order] + random.integers(1, classes, size=order.shape)) % classes
    follows = fooled[order] & (random.random(order.shape) < habits.misled)
    return np.where(follows, said[order], other)


def stream(seed: int, *names: str) -> np.random.Generator:
    """Independent numbers for each purpose."""
    digest = hashlib.blake2b("/".join((str(seed), *names)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
