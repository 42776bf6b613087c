"""Random-effect models of right answers and of confidence, solved for the mean that is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CUTS: Floats = np.array([1.5, 2.5, 3.5, 4.5])
"""Where the latent confidence, on the scale of the answers, passes from one of 1..5 to the next."""

_NODES = 80
_FURTHEST = 60.0
"""Logits; an accuracy within 1e-20 of 0 or 1 is not asked for."""


def intercept(accuracy: float, difficulty: Floats, spread: float) -> float:
    """The logit m for which people answer these images with this accuracy.

    P(right | person i, image s) = expit(m + a_i + d_s), a_i ~ N(0, spread^2): m solves the mean over the images `d_s`
    and over all people (Gauss-Hermite quadrature) = `accuracy`. The mean is of these very images, as drawn: two
    conditions of one accuracy then differ by people and by chance only.

    Args:
        accuracy: in [0, 1]; 0 gives -inf, 1 gives inf.
        difficulty: `(S,)` logits; above 0 is easier.
        spread: standard deviation of people's ability, logits.
    """
    from scipy.optimize import brentq

    if accuracy in (0.0, 1.0):
        return np.inf if accuracy else -np.inf
    nodes, weights = _normal_nodes()
    effect = difficulty[:, None] + spread * nodes

    def excess(level: float) -> float:
        return float((_expit(level + effect) @ weights).mean()) - accuracy

    reach = _FURTHEST + float(np.abs(effect).max())
    found: float = brentq(excess, -reach, reach, xtol=1e-12)
    return found


def confidence_level(mean: float, accuracy: float, tie: float, deviation: float) -> float:
    """The level m of latent confidence for which the answers 1..5 have this mean.

    latent = m + tie * (right - accuracy) + noise of standard deviation `deviation`; the answer is 1 + how many `CUTS`
    the latent exceeds (ordered probit). m solves E[answer] = `mean`, in [1, 5]; 1 gives -inf, 5 gives inf.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if mean in (1.0, 5.0):
        return np.inf if mean == 5.0 else -np.inf

    def excess(level: float) -> float:
        right = ndtr((level + tie * (1 - accuracy) - CUTS) / deviation).sum()
        wrong = ndtr((level - tie * accuracy - CUTS) / deviation).sum()
        return float(1 + accuracy * right + (1 - accuracy) * wrong) - mean

    reach = 10 + 10 * deviation + abs(tie)
    found: float = brentq(excess, 3 - reach, 3 + reach, xtol=1e-12)
    return found


def chance(level: float, effect: Floats) -> Floats:
    """P(right) where the intercept is `level`, of people and images whose effects add up to `effect`."""
    return _expit(level + effect)


def _expit(values: Floats) -> Floats:
    from scipy.special import expit

    found: Floats = expit(values)
    return found


def _normal_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights of a mean over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()
