"""The area under the curve of surviving samples over the level (Kotyan & Vargas 2020, section V-H, Table V)."""

from __future__ import annotations

import numpy as np

from charpy.analysis.document import AucPart
from charpy.analysis.outcomes import Evidence, Outcomes, smallest_levels
from charpy.outcome import Outcome
from charpy.threat import LAST_LEVEL


def auc_part(outcomes: Outcomes, samples: int, last: int = LAST_LEVEL) -> AucPart | None:
    """The area under the number of correctly classified samples not yet broken at th, by the trapezoidal rule.

    AUC = sum over neighbouring levels a < b of (b - a) * (n(a) + n(b)) / 2, with n(th) the samples that are held or
    proven at th. In samples x levels; larger is more robust. Only the levels that were assessed are used, with their
    real spacing: between two of them the curve is taken as a straight line.

    The paper prints `Delta n_a (th_1/2 + th_2 + ... + th_n/2)`, "n_a the number of images attacked", which as it
    stands adds up levels instead of samples. Table V decides what was computed: had it been the area on the other
    side, the sum of every sample's smallest level, WideResNet's threshold attack (100 samples, 15 % broken at th = 1
    and 97 % at th = 3, Table III) would give at least 15 * 1 + 82 * 2 = 179, but the table says 141.5. The trapezoid
    with step Delta th of the samples not yet broken can give that, and its halves explain why every entry of the
    table is a multiple of 0.5.

    Args:
        outcomes: of one norm.
        samples: correctly classified samples, the height of the curve at th = 0.
        last: the largest level that an image of this size has.

    Returns:
        None when fewer than two levels were assessed or there is no correctly classified sample.
    """
    if len(outcomes.levels) < 2 or samples == 0:
        return None
    standing = outcomes.counts(Outcome.HELD, Outcome.PROVEN)
    value = float(np.trapezoid(standing, outcomes.levels))
    # Levels are distinct and lie in 1..last, so as many as that are all of them.
    return _part(outcomes, samples, value, whole_range=len(outcomes.levels) == last)


def searched_auc_part(outcomes: Outcomes, evidence: Evidence, samples: int) -> AucPart | None:
    """The same area, over every level from the first to the last of `outcomes`, of a search for smallest levels.

    Sample by sample, because the range may hold a million levels: one that stands at the first level and breaks at s
    adds s - 1 - first, and a half for the step down; one that never breaks adds last - first.

    Args:
        outcomes: at the ends of the range at least.
        evidence: what they rest on.
        samples: correctly classified samples.
    """
    first, last = outcomes.levels[0], outcomes.levels[-1]
    if first == last or samples == 0:
        return None
    smallest = smallest_levels(evidence)[outcomes.mask(Outcome.HELD, Outcome.PROVEN)[:, 0]]
    area = np.where(smallest <= last, smallest - 0.5, last) - first
    return _part(outcomes, samples, float(area.sum()), whole_range=True)


def _part(outcomes: Outcomes, samples: int, value: float, *, whole_range: bool) -> AucPart:
    first, last = outcomes.levels[0], outcomes.levels[-1]
    return AucPart(
        norm=outcomes.norm,
        value=value,
        first=first,
        last=last,
        samples=samples,
        normalised=value / (samples * (last - first)),
        whole_range=whole_range,
    )
