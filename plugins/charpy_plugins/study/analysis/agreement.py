"""Krippendorff's alpha (2004): how far participants agree about the stimuli, beyond what their label counts give."""

from __future__ import annotations

import numpy as np

from charpy_plugins.study.analysis.document import Figure
from charpy_plugins.study.analysis.intervals import percentiles
from charpy_plugins.study.analysis.trials import Array

UNIT = "stimulus"

FLAT = 1e-12
"""An interval narrower than this has no width but that of rounding."""


def agreement(votes: Array, draws: int, seed: int) -> Figure:
    """Nominal alpha of `votes (U, K)`, answers for each label by stimulus; the interval resamples stimuli.

    alpha = 1 - (n - 1) sum_u D_u / (n^2 - sum_k n_k^2) with D_u = sum_{k != l} v_uk v_ul / (v_u - 1), over stimuli with
    v_u >= 2 answers, of which there are n. 1: everybody agrees; 0: as by chance; participants may differ by stimulus.
    """
    votes = votes[votes.sum(1) > 1]
    if len(votes) == 0:
        return Figure(value=None, unit=UNIT, count=0, reason="no stimulus has two answers")
    if np.count_nonzero(votes.sum(0)) == 1:
        reason = "all answers are the same label: there is no disagreement to expect"
        return Figure(value=None, unit=UNIT, count=len(votes), reason=reason)
    value = float(_alpha(votes, np.ones((1, len(votes))))[0])
    if len(votes) == 1:
        return Figure(value=value, unit=UNIT, count=1, reason="one stimulus: how much they differ is not known")
    low, high = percentiles(len(votes), draws, seed, lambda weights: _alpha(votes, weights))
    if high - low < FLAT:
        reason = "every resample of the stimuli gives the same value: an interval from their spread would have no width"
        return Figure(value=value, unit=UNIT, count=len(votes), reason=reason)
    return Figure(value=value, low=low, high=high, unit=UNIT, count=len(votes))


def _alpha(votes: Array, weights: Array) -> Array:
    """`(D,)` for `(D, U)` weights of the stimuli; NaN where only one label is left."""
    each = votes.sum(1)
    disagreement = (each**2 - (votes**2).sum(1)) / (each - 1)
    answers = weights @ each
    expected = answers**2 - ((weights @ votes) ** 2).sum(1)
    there = expected > 0
    return np.where(there, 1 - (answers - 1) * (weights @ disagreement) / np.where(there, expected, 1.0), np.nan)
