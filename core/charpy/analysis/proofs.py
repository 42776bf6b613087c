"""What certifiers proved: the largest proven level of each sample, and the bracket up to the nearest witness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from charpy.analysis.document import BracketPart, ProofPart, SampleBracket, ThreatPart
from charpy.analysis.findings import Population
from charpy.analysis.levels import safe_name
from charpy.analysis.outcomes import Evidence, Ints, smallest_levels
from charpy.interfaces.certifier import THE_MODEL
from charpy.records import ProofRecord, SampleRow
from charpy.threat import OWN


def proven_levels(records: Sequence[ProofRecord], population: Population, *, binding: bool = False) -> dict[str, Ints]:
    """By norm, int64 `(S,)`: the largest level at which each sample is proven; 0 where it is proven at none.

    `binding`: only proofs of the model itself, which a witness contradicts.
    """
    levels: dict[str, Ints] = {}
    for record in records:
        if record.key.th == 0:
            continue
        of_norm = levels.setdefault(record.key.norm, np.zeros(len(population.labels), np.int64))
        if binding and record.detail.get("of", THE_MODEL) != THE_MODEL:
            continue
        for sample, holds in record.proven.items():
            if holds:
                place = population.position[sample]
                of_norm[place] = max(of_norm[place], record.key.th)
    return levels


def proof_parts(records: Sequence[ProofRecord]) -> tuple[ProofPart, ...]:
    """One part for each certifier, norm and level that it was asked about.

    Under a norm where none was asked, one for each that could have been, with the reason.
    """
    groups: dict[tuple[str, str, int], list[ProofRecord]] = {}
    for record in records:
        groups.setdefault((record.key.norm, record.key.certifier, record.key.th), []).append(record)
    parts = []
    asked = {norm for norm, _, th in groups if th}
    for (norm, certifier, th), group in sorted(groups.items()):
        if th == 0 and norm in asked:
            continue
        detail = dict(group[-1].detail)
        reasons = [str(record.detail["reason"]) for record in group if "reason" in record.detail]
        detail.pop("reason", None)
        parts.append(
            ProofPart(
                norm=norm,
                certifier=certifier,
                th=th,
                arithmetic=str(detail.pop("arithmetic", "real")),
                asked=sum(len(record.proven) for record in group),
                proven=sum(sum(record.proven.values()) for record in group),
                seconds=sum(record.seconds for record in group),
                reason=reasons[0] if reasons else "",
                detail=detail,
            )
        )
    return tuple(parts)


def bracket_parts(
    evidence: Mapping[str, Evidence], threats: Sequence[ThreatPart], samples: Sequence[SampleRow]
) -> tuple[BracketPart, ...]:
    """For each norm under which something was proven: every correct sample's interval, and a sentence a level."""
    parts = []
    for norm, found in evidence.items():
        if found.proven is None:
            continue
        nearest = smallest_levels(found)
        rows = [
            SampleBracket(
                id=row.id,
                proven=int(found.proven[place]),
                broken=int(nearest[place]) if np.isfinite(nearest[place]) else None,
            )
            for place, row in enumerate(samples)
            if found.correct[place]
        ]
        said = tuple(_sentence(threat) for threat in threats if threat.norm == norm)
        parts.append(BracketPart(norm=norm, sentences=said, samples=tuple(rows)))
    return tuple(parts)


def _sentence(threat: ThreatPart) -> str:
    """`81 of 97 images are proven 1-pixel-safe; 13 are broken; 3 are undecided`."""
    total = threat.proven + threat.broken + threat.held
    verb, images = "is" if threat.proven == 1 else "are", "image" if total == 1 else "images"
    name = "within their own levels" if threat.th == OWN else safe_name(threat.norm, threat.th)
    others = [
        f"{count} {'is' if count == 1 else 'are'} {what}"
        for count, what in ((threat.broken, "broken"), (threat.held, "undecided"))
    ]
    return f"{threat.proven} of {total} {images} {verb} proven {name}; {others[0]}; {others[1]}"
