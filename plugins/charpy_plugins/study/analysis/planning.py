"""How many participants a study needs: power of Welch's test and of equivalence, by formula and by simulation.

A participant's share of correct answers varies because participants differ (`spread`) and because they answer few
questions: var = spread^2 + (p (1 - p) - spread^2) / questions, with p the accuracy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from charpy.errors import SpecError
from charpy_plugins.study.analysis import differences
from charpy_plugins.study.analysis.trials import Array

MOST = 1_000_000
"""Participants a condition beyond which no study is planned."""


class Arm(NamedTuple):
    """A condition: mean accuracy, standard deviation of participants' own accuracies, and how many there are."""

    accuracy: float
    spread: float
    participants: int

    def variance(self, questions: int) -> float:
        """Of a participant's share of correct answers."""
        chance = self.accuracy * (1 - self.accuracy) - self.spread**2
        return self.spread**2 + chance / questions


class Need(NamedTuple):
    """Participants in each of two equal conditions; None: no number up to `MOST` does it, and why."""

    participants: int | None
    power: float | None
    reason: str = ""


def checked_arm(arm: Arm, where: str) -> Arm:
    """`arm`, if such participants can be.

    Raises:
        SpecError: an accuracy beyond 0..1, or a spread that shares with this mean cannot have.
    """
    if not 0 <= arm.accuracy <= 1:
        raise SpecError("not an accuracy", where=where, found=arm.accuracy, expected="a share, 0 to 1")
    most = math.sqrt(arm.accuracy * (1 - arm.accuracy))
    if not 0 <= arm.spread <= most:
        expected = f"0 to {most:.3g}: shares with a mean of {arm.accuracy:g} cannot spread more"
        raise SpecError("not a spread", where=where, found=arm.spread, expected=expected)
    return arm


def power(first: Arm, second: Arm, *, questions: int, alpha: float) -> float:
    """Of the two-sided Welch test: P(|T| > t_{1 - alpha / 2, df}), T noncentral t with difference / error."""
    from scipy.stats import t

    error, df = _error(first, second, questions)
    difference = second.accuracy - first.accuracy
    if error == 0:
        return 1.0 if difference else 0.0
    bound, shift = float(t.ppf(1 - alpha / 2, df)), difference / error
    return _above(bound, df, shift) + _above(bound, df, -shift)


def equivalence_power(first: Arm, second: Arm, *, questions: int, alpha: float, margin: float) -> float:
    """Of two one-sided Welch tests: P(T_low > b) + P(T_high < -b) - 1, at least 0 (Phillips 1990).

    Exact where the two cannot both fail, that is for a margin above b errors.
    """
    from scipy.stats import t

    error, df = _error(first, second, questions)
    difference = second.accuracy - first.accuracy
    if error == 0:
        return float(abs(difference) < margin)
    bound = float(t.ppf(1 - alpha, df))
    low, high = (_above(bound, df, (margin + sign * difference) / error) for sign in (1, -1))
    return max(0.0, low + high - 1)


def needed(
    first: Arm, second: Arm, *, questions: int, alpha: float, target: float, margin: float | None = None
) -> Need:
    """The fewest participants in each condition that reach the power; with a margin, of equivalence.

    No fewer than the permutation test can find anything with: p of the farthest split of 2 n is 2 / C(2 n, n).
    The participants of the two arms are not read.
    """
    difference = abs(second.accuracy - first.accuracy)
    if margin is None and difference == 0:
        return Need(None, None, "the accuracies are equal: there is no difference to find")
    if margin is not None and difference >= margin:
        return Need(None, None, f"the accuracies differ by {100 * difference:g} points, no less than the margin")

    def reached(people: int) -> float:
        if margin is None and people < 100 and 2 / math.comb(2 * people, people) >= alpha:
            return 0.0
        arms = first._replace(participants=people), second._replace(participants=people)
        if margin is None:
            return power(*arms, questions=questions, alpha=alpha)
        return equivalence_power(*arms, questions=questions, alpha=alpha, margin=margin)

    high = 2
    while reached(high) < target:
        high *= 2
        if high > MOST:
            return Need(None, None, f"more than {MOST} participants")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= target else (middle, high)
    return Need(high, reached(high))


def simulated_power(
    first: Arm, second: Arm, *, questions: int, alpha: float, margin: float, studies: int, seed: int
) -> tuple[float, float]:
    """Shares of simulated studies in which Welch's test finds a difference, and in which equivalence is shown."""
    random = np.random.default_rng(seed)
    means = _drawn(first, questions, studies, random), _drawn(second, questions, studies, random)
    different = differences.welch(*means).p < alpha
    equivalent = differences.tost(*means, margin).p < alpha
    return float(different.mean()), float(equivalent.mean())


def _drawn(arm: Arm, questions: int, studies: int, random: np.random.Generator) -> Array:
    """`(studies, P)` shares of correct answers, of beta-distributed accuracies."""
    shape = (studies, arm.participants)
    ability: Array = np.full(shape, arm.accuracy)
    if arm.spread > 0:
        total = arm.accuracy * (1 - arm.accuracy) / arm.spread**2 - 1
        ability = random.beta(arm.accuracy * total, (1 - arm.accuracy) * total, shape)
    return random.binomial(questions, ability) / questions


def _above(bound: float, df: float, shift: float) -> float:
    """P(T > bound), T noncentral t; where scipy has no value, by the normal approximation (26.7.10 in Abramowitz)."""
    from scipy.stats import nct, norm

    share = float(nct.sf(bound, df, shift))
    if math.isfinite(share):
        return share
    return float(norm.sf((bound * (1 - 1 / (4 * df)) - shift) / math.sqrt(1 + bound**2 / (2 * df))))


def _error(first: Arm, second: Arm, questions: int) -> tuple[float, float]:
    a = first.variance(questions) / first.participants
    b = second.variance(questions) / second.participants
    if a + b == 0:
        return 0.0, 1.0
    df = (a + b) ** 2 / (a**2 / (first.participants - 1) + b**2 / (second.participants - 1))
    return math.sqrt(a + b), df
