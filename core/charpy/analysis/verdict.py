"""Whether a run is evidence at all, and its result in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from charpy.analysis.document import SafePart, ThreatPart
from charpy.threat import BALLS, OWN, Goal, Norm

INVALID_LIMIT = 0.001
"""A run with a larger share of invalid samples supports no figure."""

ONE_TARGET = "; one wrong class was tried for each image, which says nothing about the others"
"""What a targeted run does not show."""

SPOKEN = {Norm.L0: "L0", Norm.L1: "L1", Norm.L2: "L2", Norm.LINF: "Linf", Norm.UNRESTRICTED: "unrestricted attacks"}


class Status(NamedTuple):
    """`valid`, `invalid` or `unsound`, and why (also what is missing of a valid but unfinished run)."""

    value: Literal["valid", "invalid", "unsound"]
    reason: str
    finished: bool = True


def status_of(samples: int, invalid: Mapping[str, int], contradictions: int, *, finished: bool) -> Status:
    """The status of a run.

    Args:
        samples: how many samples there are.
        invalid: reason -> how many samples are invalid for it, each sample once.
        contradictions: samples that are certified although an attack broke them.
        finished: whether every unit is done.
    """
    late = "" if finished else "the run is unfinished: resume it with the same command"
    if contradictions:
        what = "certificate is" if contradictions == 1 else "certificates are"
        return Status("unsound", _joined(f"{contradictions} {what} contradicted by a witness", late), finished)
    if samples == 0:
        return Status("invalid", _joined("no sample was assessed", late), finished)
    count = sum(invalid.values())
    if count == 0:
        return Status("valid", late, finished)
    ordered = sorted(invalid.items(), key=lambda item: (-item[1], item[0]))
    listed = "; ".join(f"{n} x {reason}" for reason, n in ordered) if len(ordered) > 1 else ordered[0][0]
    what = f"{count} of {samples} samples {'is' if count == 1 else 'are'} invalid ({listed})"
    return Status("invalid" if count > INVALID_LIMIT * samples else "valid", _joined(what, late), finished)


def verdict(status: Status, samples: int, correct: int, threats: Sequence[ThreatPart], safe: Sequence[SafePart]) -> str:
    """The result in one sentence of plain words.

    It names, per norm, the smallest level that breaks something, or the largest that breaks nothing; what was not
    broken is never called robust, and where the figures that it names are weak evidence it says why.
    """
    if status.value == "unsound":
        return f"This run is unsound, so none of its figures can be trusted: {status.reason}."
    if status.value == "invalid":
        return f"No verdict: {status.reason}."
    if correct == 0:
        return f"None of the {_images(samples)} is classified correctly, so there was nothing to attack."
    if threats and all(threat.grade == "invalid" for threat in threats):
        return f"No verdict: {threats[0].grade_reasons[0]}."
    subject = f"{correct} of {_images(samples)} {'is' if correct == 1 else 'are'} classified correctly"
    norms = list(dict.fromkeys(threat.norm for threat in threats))
    bounded = [norm for norm in norms if norm in BALLS] or norms
    clauses = [_clause([t for t in threats if t.norm == norm], first=i == 0) for i, norm in enumerate(bounded)]
    untargeted = [part for part in safe if any(t.norm == part.norm and t.goal != Goal.TARGETED for t in threats)]
    sentence = f"{subject}; {_listed(clauses)}"
    if untargeted:
        sentence += f", so {_conclusion(untargeted)}"
    elif any(threat.goal == Goal.TARGETED for threat in threats):
        sentence += ONE_TARGET
    for norm in norms:
        if norm not in bounded:  # what follows from the levels does not follow from it
            clause = _clause([threat for threat in threats if threat.norm == norm], first=True)
            sentence += f". {clause[0].upper()}{clause[1:]}"
    sentence += f"{_weakness(threats, safe, alone=len(norms) == 1)}."
    return sentence if status.finished else f"Unfinished run, so far: {sentence}"


def percent(value: float) -> str:
    """A share in per cent for reading; only 0 is ever written as 0 %, only 1 as 100 %."""
    for digits in range(5):
        text = f"{100 * value:.{digits}f}"
        misleading = (value > 0 and float(text) == 0) or (value < 1 and float(text) == 100)
        if not misleading:
            break
    return f"{text} %"


def change(norm: str, th: int) -> str:
    """What an attack of this level does to an image, in words."""
    if th == OWN:
        return f"moving each image within its own {SPOKEN[Norm(norm)]} ball"
    if norm == Norm.L0:
        return "changing one pixel" if th == 1 else f"changing up to {th} pixels"
    if norm == Norm.LINF:
        return f"changing every value by at most {th}/255"
    if norm == Norm.UNRESTRICTED:
        return "changing an image in ways that no distance bounds"
    return f"moving an image by an {norm.upper()} distance of at most {th}/255"


def _weakness(threats: Sequence[ThreatPart], safe: Sequence[SafePart], *, alone: bool) -> str:
    """Why the figures that the sentence names are weak evidence, if they are; `alone`: there is one norm only."""
    whose: dict[str, list[str]] = {}
    for norm in dict.fromkeys(threat.norm for threat in threats):
        levels = [threat for threat in threats if threat.norm == norm]
        up_to = _safe_up_to([part for part in safe if part.norm == norm])
        named = [_named(levels), *(threat for threat in levels if up_to is not None and threat.th == up_to.th)]
        if weak := [threat for threat in named if threat.grade == "weak"]:
            whose.setdefault(weak[0].grade_reasons[0], []).append(SPOKEN[Norm(norm)])
    if not whose:
        return ""
    whys = [reason if alone else f"under {_listed(norms)} {reason}" for reason, norms in whose.items()]
    return f"; this is weak evidence: {_listed(whys)}"


def _named(threats: Sequence[ThreatPart]) -> ThreatPart:
    """Of one norm, the first level that breaks something, or the last one."""
    return next((t for t in threats if t.broken), threats[-1])


def _clause(threats: Sequence[ThreatPart], *, first: bool) -> str:
    """What the level that is named does."""
    threat = _named(threats)
    whose = " of them" if first else ""
    targeted = threat.goal == Goal.TARGETED
    verb, into = ("turns", " into a class given for each") if targeted else ("breaks", "")
    if not threat.broken:
        return f"{change(threat.norm, threat.th)} {verb} none{whose}{into}"
    share = percent(threat.adversarial_accuracy or 0.0)
    return f"{change(threat.norm, threat.th)} {verb} {threat.broken}{whose}{into} ({share})"


def _conclusion(safe: Sequence[SafePart]) -> str:
    norms = list(dict.fromkeys(part.norm for part in safe))
    unsafe, open_, proven = [], [], []
    for norm in norms:
        levels = [part for part in safe if part.norm == norm]
        up_to = _safe_up_to(levels)
        if up_to is None:
            unsafe.append(levels[0].name)
        elif up_to.basis == "proven":
            proven.append(up_to.name)
        else:
            open_.append(change(norm, up_to.th))
    parts = []
    if unsafe:
        parts.append(f"the model is {'not' if len(unsafe) == 1 else 'neither'} {' nor '.join(unsafe)}")
    if proven:
        parts.append(f"{'it' if parts else 'the model'} is proven {_listed(proven)} on these images")
    if open_:
        who = "it" if parts else "the model"
        parts.append(f"{who} was not broken by these attacks when {_listed(open_, 'or')}, which is not a proof")
    return ", and ".join(parts)


def _safe_up_to(levels: Sequence[SafePart]) -> SafePart | None:
    """The last of the unbroken run of safe levels that starts at the first; None when the first is not safe."""
    last = None
    for part in levels:
        if not part.safe:
            break
        last = part
    return last


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


def _listed(texts: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {word} ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
