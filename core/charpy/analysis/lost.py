"""What could not be done: units, proofs and trials that a model or a plugin made impossible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from charpy.analysis.document import DrillPart, LostPart
from charpy.records import ProofRecord


def lost_parts(
    units: Iterable[Mapping[str, Any]], proofs: Iterable[ProofRecord], drills: Sequence[DrillPart]
) -> tuple[LostPart, ...]:
    """One part for each thing that failed at a level for a reason, with the samples that it cost."""
    counts: Counter[tuple[str, str, int, str]] = Counter()
    for unit in units:
        if reason := unit["detail"].get("failure"):
            counts[unit["attack"], unit["norm"], unit["th"], reason] += unit["attacked"]
    for proof in proofs:
        if proof.key.th and (reason := proof.detail.get("reason")):
            counts[proof.key.certifier, proof.key.norm, proof.key.th, str(reason)] += len(proof.proven)
    for drill in drills:
        if drill.failure:
            counts[f"{drill.attack} on planted examples", drill.norm, drill.th, drill.failure] += drill.planted
    return tuple(
        LostPart(what=what, norm=norm, th=th, samples=count, reason=reason)
        for (what, norm, th, reason), count in counts.items()
    )
