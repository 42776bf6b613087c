"""Gates against what a run found: each on the bound of its figure's interval, and only on evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from charpy.analysis.attackers import base_title
from charpy.analysis.document import Assessment, GatePart, Share, ThreatPart
from charpy.analysis.intervals import share
from charpy.analysis.verdict import percent
from charpy.errors import unknown_name
from charpy.gates import COMPARE, Gate, spoken_level
from charpy.specs import Attackers

UNFINISHED = "the run is unfinished"

SIGNS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}


def judged(assessments: Sequence[Assessment], gates: Iterable[Gate], *, finished: bool) -> tuple[Assessment, ...]:
    """`assessments` with the gates that are about each.

    A gate without a model is about every one. A model with several attackers has as many rows, and a gate is about
    all but that of the static attacker, whose failure shows nothing; `of MODEL (static)` names that one, too.

    Raises:
        UnknownNameError: a gate names a model that is not there.
    """
    gates = tuple(dict.fromkeys(gates))
    titles = {part.model.name for part in assessments}
    bases = {base_title(part.model) for part in assessments}
    for gate in gates:
        if gate.model is not None and gate.model not in titles | bases:
            raise unknown_name("model", gate.model, titles, where=f"gate '{gate}'", hint="`of MODEL` ends a gate")
    several = {base for base in bases if sum(base_title(part.model) == base for part in assessments) > 1}

    def about(gate: Gate, part: Assessment) -> bool:
        base = base_title(part.model)
        if gate.model == part.model.name:
            return True
        overlooked = base in several and part.model.attackers == Attackers.STATIC
        return gate.model in (None, base) and not overlooked

    return tuple(
        part.model_copy(
            update={"gates": tuple(gate_part(part, gate, finished=finished) for gate in gates if about(gate, part))}
        )
        for part in assessments
    )


def gate_part(assessment: Assessment, gate: Gate, *, finished: bool) -> GatePart:
    """`gate` against one model. It fails on a run that is no evidence or not finished, on a figure that is missing,
    and on one that is weak or invalid evidence; `even if weak` lets weak evidence pass."""
    threat = next((t for t in assessment.threats if (t.norm, t.th) == (gate.norm, gate.th)), None)
    found = _share(assessment, threat, gate)
    measured = None if found is None else found.low if gate.bound == "lower" else found.high
    passed, reason = _outcome(assessment, threat, gate, found, measured, finished)
    return GatePart(
        gate=str(gate),
        norm=gate.norm,
        th=gate.th,
        figure=gate.figure,
        bound=gate.bound,
        comparator=gate.comparator,
        limit=gate.limit,
        share=found,
        measured=measured,
        passed=passed,
        reason=reason,
    )


def _outcome(
    assessment: Assessment,
    threat: ThreatPart | None,
    gate: Gate,
    found: Share | None,
    measured: float | None,
    finished: bool,
) -> tuple[bool, str]:
    if assessment.status != "valid":
        return False, f"the run is {assessment.status}: {assessment.status_reason}"
    if not finished:
        return False, UNFINISHED
    if gate.norm is not None and threat is None:
        return False, _missing(assessment, gate)
    if found is None or measured is None:
        return False, f"there is no {gate.figure}: no sample that it could be a share of"
    if threat is not None and threat.grade == "invalid":
        return False, f"the figure is invalid evidence: {'; '.join(threat.grade_reasons)}"
    doubts = _doubts(assessment, threat, gate)
    holds = gate.holds(measured)
    where = f"{gate.bound} bound {_digits(measured, gate.limit)} of {found.count} of {found.total}"
    verb = "is" if holds else "is not"
    said = f"{where} {verb} {SIGNS[gate.comparator]} {percent(gate.limit)}"
    if not holds:
        return False, said + _unreachable(gate, found.total)
    if not doubts:
        return True, said
    if gate.weak:
        return True, f"{said}; weak evidence, allowed by the gate: {'; '.join(doubts)}"
    return False, f"weak evidence ({said}): {'; '.join(doubts)}"


def _share(assessment: Assessment, threat: ThreatPart | None, gate: Gate) -> Share | None:
    """The figure as a count of a total; None where there is none."""
    if gate.figure == "clean_accuracy":
        return assessment.clean if assessment.clean.total else None
    if gate.norm is None:
        return assessment.invalid if assessment.invalid.total else None
    if threat is None or not threat.samples:
        return None
    if gate.figure == "adversarial_accuracy":
        correct = threat.broken + threat.held + threat.proven
        return None if threat.adversarial_accuracy is None else share(threat.broken, correct)
    counts = {
        "robust_accuracy": threat.proven + threat.held,
        "proven": threat.proven,
        "invalid": threat.invalid,
    }
    return share(counts[gate.figure], threat.samples)


def _doubts(assessment: Assessment, threat: ThreatPart | None, gate: Gate) -> tuple[str, ...]:
    """Why the figure is weak evidence: what is proven, clean or invalid rests on no attack, only on the model."""
    if not assessment.model.deterministic:
        return ("the model answers differently each time, and each answer is a single draw",)
    if threat is not None and gate.figure in ("robust_accuracy", "adversarial_accuracy"):
        return threat.grade_reasons if threat.grade == "weak" else ()
    return ()


def _missing(assessment: Assessment, gate: Gate) -> str:
    levels = [spoken_level(threat.th) for threat in assessment.threats if threat.norm == gate.norm]
    if levels:
        return f"the run has no level {spoken_level(gate.th or 0)} of {gate.norm}; it has {', '.join(levels)}"
    norms = dict.fromkeys(threat.norm for threat in assessment.threats)
    return f"the run does not assess {gate.norm}; it assesses {', '.join(norms)}"


def _unreachable(gate: Gate, total: int) -> str:
    """What to do where so few samples cannot pass, whatever the model does."""
    best = share(total if gate.comparator in (">=", ">") else 0, total)
    bound = best.low if gate.bound == "lower" else best.high
    if bound is None or COMPARE[gate.comparator](bound, gate.limit):
        return ""
    return f"; {total} samples are too few: the best that they can show is {percent(bound)}"


def _digits(value: float, limit: float) -> str:
    """A bound in per cent, with as many digits as tell it from the limit."""
    for digits in range(1, 8):
        text = f"{100 * value:.{digits}f}"
        if value == limit or float(text) != round(100 * limit, 9):
            break
    return f"{text} %"
