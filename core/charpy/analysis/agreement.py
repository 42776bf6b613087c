"""How far the two norms break the same samples (Kotyan & Vargas 2020, section V-G, Figure 5)."""

from __future__ import annotations

from charpy.analysis.document import AgreementPart
from charpy.analysis.outcomes import Outcomes
from charpy.outcome import Outcome


def agreement_parts(l0: Outcomes, linf: Outcomes) -> tuple[AgreementPart, ...]:
    """At each level that both norms have: samples broken under only one norm, under both, under neither.

    Counted over the samples that are broken, held or proven under both norms at that level, so the four numbers add
    up to `samples`; a sample that is invalid under either says nothing about agreement.
    """
    levels = [th for th in l0.levels if th in linf.levels]
    pixels, steps = l0.at(levels), linf.at(levels)
    parts = []
    judged = (Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN)
    both_judged = pixels.mask(*judged) & steps.mask(*judged)
    by_l0, by_linf = pixels.mask(Outcome.BROKEN) & both_judged, steps.mask(Outcome.BROKEN) & both_judged
    for column, th in enumerate(levels):
        a, b = by_l0[:, column], by_linf[:, column]
        samples, both = int(both_judged[:, column].sum()), int((a & b).sum())
        only_l0, only_linf = int((a & ~b).sum()), int((b & ~a).sum())
        parts.append(
            AgreementPart(
                th=th,
                samples=samples,
                only_l0=only_l0,
                only_linf=only_linf,
                both=both,
                neither=samples - only_l0 - only_linf - both,
            )
        )
    return tuple(parts)
