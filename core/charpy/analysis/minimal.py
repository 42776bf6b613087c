"""The smallest level that breaks each sample, over the whole range of levels (a `minimal` search)."""

from __future__ import annotations

import math

import numpy as np

from charpy.analysis.document import MinimalPart
from charpy.analysis.outcomes import Evidence, Floats, Outcomes, smallest_levels
from charpy.outcome import Outcome


def minimal_part(outcomes: Outcomes, evidence: Evidence) -> MinimalPart:
    """How the smallest breaking levels are distributed.

    Quantiles are over all correctly classified samples; one that was never broken counts as larger than any level, so
    a model that mostly holds has no median instead of the median of its few failures. `evidence` is what `outcomes`
    rest on.
    """
    last = outcomes.mask(Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN)[:, -1]
    smallest = smallest_levels(evidence)[last]
    found, counts = np.unique(smallest[np.isfinite(smallest)], return_counts=True)
    return MinimalPart(
        norm=outcomes.norm,
        samples=len(smallest),
        broken=int(counts.sum()),
        median=_quantile(smallest, 0.5),
        quartiles=(_quantile(smallest, 0.25), _quantile(smallest, 0.75)),
        counts={int(th): int(count) for th, count in zip(found, counts, strict=True)},
    )


def _quantile(values: Floats, share: float) -> float | None:
    """The smallest value that at least `share` of `values` do not exceed; None when that is infinity, or of nothing."""
    if len(values) == 0:
        return None
    value = float(np.sort(values)[math.ceil(share * len(values)) - 1])
    return value if math.isfinite(value) else None
