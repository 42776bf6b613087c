"""How well suspicion scores tell adversarial from clean images: threshold, rates, ROC curve and the area under it.

Scores are larger where an image is more suspicious; an image is flagged where its score is above the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.document import Share
from charpy.analysis.intervals import CONFIDENCE, share

FALSE_POSITIVES = 0.05
"""The rate at which the published detectors are compared (Xu, Evans & Qi 2018, section V)."""

Scores = Sequence[float] | NDArray[np.floating]


class Roc(NamedTuple):
    """Shares of clean and of adversarial images whose score is above each threshold, from (0, 0) to (1, 1)."""

    thresholds: list[float]
    false_positives: list[float]
    true_positives: list[float]


class Area(NamedTuple):
    """The area under a ROC curve with a two-sided 95 % interval."""

    value: float
    low: float
    high: float


class Detection(NamedTuple):
    """What a detector did.

    Attributes:
        threshold: above which an image is flagged.
        false_positives: flagged of clean images other than those that the threshold was chosen on.
        successful: flagged of the adversarial images that fool the model.
        failed: flagged of those that were meant to and do not.
        roc, area: of the successful ones against the other clean images; None where there are none.
    """

    threshold: float
    false_positives: Share
    successful: Share
    failed: Share
    roc: Roc | None
    area: Area | None


def detection(
    chosen_on: Scores, clean: Scores, successful: Scores, failed: Scores, rate: float = FALSE_POSITIVES
) -> Detection:
    """Scores of four kinds of images: clean ones to choose the threshold on, other clean ones, and adversarial ones.

    Raises:
        ValueError: no scores to choose on, a score is NaN, or `rate` lies outside [0, 1).
    """
    threshold = threshold_at(chosen_on, rate)
    known = len(clean) > 0 and len(successful) > 0
    return Detection(
        threshold,
        flagged(clean, threshold),
        flagged(successful, threshold),
        flagged(failed, threshold),
        roc(clean, successful) if known else None,
        area(clean, successful) if known else None,
    )


def threshold_at(clean: Scores, rate: float = FALSE_POSITIVES) -> float:
    """The least score that at most the share `rate` of the `clean` scores exceeds: the ceil(n (1 - rate))-th smallest.

    Raises:
        ValueError: no scores, a score is NaN, or `rate` lies outside [0, 1).
    """
    scores = np.sort(_array(clean))
    if not len(scores):
        raise ValueError("a threshold needs clean scores to be chosen on, got none")
    if not 0 <= rate < 1:
        raise ValueError(f"a false positive rate must lie within [0, 1), got {rate}")
    allowed = math.floor(len(scores) * rate + 1e-9)  # 0.05 is a little more than 1/20 in binary, 0.95 a little less
    return float(scores[len(scores) - 1 - allowed])


def flagged(scores: Scores, threshold: float) -> Share:
    """How many of the scores are above the threshold."""
    found = _array(scores)
    return share(int((found > threshold).sum()), len(found))


def roc(clean: Scores, adversarial: Scores) -> Roc:
    """The curve over all thresholds at which anything changes, the largest first.

    Raises:
        ValueError: one of the two has no scores, or a score is NaN.
    """
    one, other = _both(clean, adversarial)
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([one, other]))[::-1], [-np.inf]])
    rates = [(1 - np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores)) for scores in (one, other)]
    return Roc(thresholds.tolist(), rates[0].tolist(), rates[1].tolist())


def area(clean: Scores, adversarial: Scores) -> Area:
    """The probability that an adversarial image scores above a clean one, a tie counting one half.

    The interval is that of the values theta that lie within the normal quantile of what was found, with the variance
    of Hanley & McNeil 1982 at theta and both sample sizes replaced by their mean (Newcombe 2006, Confidence intervals
    for an effect size measure based on the Mann-Whitney statistic, part 2, method 5). Unlike that of DeLong et al. 1988
    it does not collapse where all adversarial images score above all clean ones.

    Raises:
        ValueError: one of the two has no scores, or a score is NaN.
    """
    one, other = _both(clean, adversarial)
    ordered = np.sort(one)
    below, up_to = (np.searchsorted(ordered, other, side=side).sum() for side in ("left", "right"))
    value = float((below + up_to) / (2 * len(one) * len(other)))
    return Area(value, *_interval(value, len(one), len(other)))


def _interval(value: float, clean: int, adversarial: int) -> tuple[float, float]:
    from scipy.stats import norm  # here, because scipy.stats takes a second to import

    quantile = float(norm.ppf((1 + CONFIDENCE) / 2))
    more = (clean + adversarial) / 2 - 1

    def outside(theta: float) -> bool:
        spread = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        return (value - theta) ** 2 > quantile**2 * theta * (1 - theta) * spread / (clean * adversarial)

    ends = []
    for far in (0.0, 1.0):
        near = value
        for _ in range(60):
            middle = (far + near) / 2
            far, near = (middle, near) if outside(middle) else (far, middle)
        ends.append(near)
    return ends[0], ends[1]


def _both(clean: Scores, adversarial: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = _array(clean), _array(adversarial)
    if not len(one) or not len(other):
        raise ValueError(f"a curve needs both kinds of scores, got {len(one)} clean and {len(other)} adversarial")
    return one, other


def _array(scores: Scores) -> NDArray[np.float64]:
    found = np.asarray(scores, dtype=np.float64).reshape(-1)
    if np.isnan(found).any():
        raise ValueError(f"{int(np.isnan(found).sum())} of {len(found)} scores are NaN")
    return found
