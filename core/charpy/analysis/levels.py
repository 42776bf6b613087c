"""Figures at each robustness level: the five counts, adversarial accuracy, the robust accuracy bracket, k-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from charpy.analysis.document import Interval, RobustAccuracy, SafePart, ThreatPart
from charpy.analysis.findings import LevelCosts
from charpy.analysis.grade import Grade
from charpy.analysis.intervals import clopper_pearson, ratio, upper_bound
from charpy.analysis.outcomes import Outcomes
from charpy.outcome import Outcome
from charpy.threat import BALLS, OWN, Goal, Norm

SAFE_NAMES = {Norm.L0: "pixel", Norm.L1: "l1", Norm.L2: "l2", Norm.LINF: "threshold"}
"""`th`-pixel-safe and `th`-threshold-safe (Kotyan & Vargas 2020, section IV); the same of L1 and L2."""


def threat_parts(
    outcomes: Outcomes, *, goal: str, queries: int, costs: Mapping[int, LevelCosts], grades: Mapping[int, Grade]
) -> tuple[ThreatPart, ...]:
    """One `ThreatPart` per level of `outcomes`; `costs` and `grades` by level.

    Adversarial accuracy is unknown where a sample was never attacked: what smaller levels broke is broken there, too,
    and would be all that is counted.
    """
    counts = {outcome: outcomes.counts(outcome) for outcome in Outcome}
    samples = len(outcomes.matrix)
    parts = []
    for column, th in enumerate(outcomes.levels):
        broken, held, proven = (counts[o][column] for o in (Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN))
        correct = broken + held + proven
        known = not outcomes.unattacked[:, column].any()
        cost = costs.get(th, LevelCosts())
        parts.append(
            ThreatPart(
                norm=outcomes.norm,
                th=th,
                goal=goal,
                queries=queries,
                samples=samples,
                clean_error=counts[Outcome.CLEAN_ERROR][column],
                broken=broken,
                held=held,
                proven=proven,
                invalid=counts[Outcome.INVALID][column],
                adversarial_accuracy=ratio(broken, correct) if known else None,
                adversarial_interval=clopper_pearson(broken, correct) if known else None,
                robust_accuracy=RobustAccuracy(proven=ratio(proven, samples), not_broken=ratio(proven + held, samples)),
                interval=Interval(
                    proven=clopper_pearson(proven, samples), not_broken=clopper_pearson(proven + held, samples)
                ),
                queries_to_success_median=cost.queries_to_success_median,
                metrics=dict(cost.metrics),
                grade=grades[th].value,
                grade_reasons=grades[th].reasons,
            )
        )
    return tuple(parts)


def safe_parts(threats: Sequence[ThreatPart], *, valid: bool) -> tuple[SafePart, ...]:
    """Which levels are safe, and on what basis.

    A level with a broken sample is not safe, whatever else is wrong with the run; a level without one is safe only
    when the run is `valid` and there was a sample to break. What no distance bounds has no level to be safe at, and
    where each sample has its own there is not one.
    """
    return tuple(_safe_part(threat, valid) for threat in threats if threat.norm in BALLS and threat.th != OWN)


def _safe_part(threat: ThreatPart, valid: bool) -> SafePart:
    samples = threat.broken + threat.held + threat.proven
    basis: Literal["proven", "not broken", "no", "no evidence"]
    if threat.broken and threat.goal != Goal.TARGETED:
        basis = "no"
    elif not valid or threat.grade == "invalid" or samples == 0 or threat.goal == Goal.TARGETED:
        basis = "no evidence"  # one target per image leaves the other classes open
    else:
        basis = "proven" if threat.held == 0 else "not broken"
    return SafePart(
        norm=threat.norm,
        th=threat.th,
        name=safe_name(threat.norm, threat.th),
        safe=basis in ("proven", "not broken"),
        basis=basis,
        samples=samples,
        upper_bound=upper_bound(threat.broken, samples),
    )


def safe_name(norm: str, th: int) -> str:
    """For example `1-pixel-safe`, `10-threshold-safe`, `128-l2-safe`."""
    return f"{th}-{SAFE_NAMES[Norm(norm)]}-safe"
