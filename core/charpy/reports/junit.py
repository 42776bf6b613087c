"""The run as JUnit XML, for the test pages of CI services: a suite a model and norm, a case a gate and a level.

Only a gate can fail: a level is a measurement, and passes whatever was broken. Where there is no valid evidence a case
is an error, and a level that an unfinished run has not attacked is skipped. So there is a failure where the exit code
is 1, and an error where it is 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal
from xml.etree import ElementTree

from charpy.analysis.document import Assessment, GatePart, LostPart, Share, ThreatPart
from charpy.analysis.verdict import percent
from charpy.gates import spoken_level
from charpy.interfaces.report import Report
from charpy.reports.inert import visible
from charpy.reports.norms import short

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


@dataclass(frozen=True)
class Case:
    """One test case; `kind` is '' where it passed."""

    name: str
    kind: Literal["", "failure", "error", "skipped"] = ""
    message: str = ""
    type: str = ""
    said: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Suite:
    """The cases of one model under one norm, or of the model whatever the norm."""

    model: str
    norm: str
    cases: tuple[Case, ...]

    @property
    def name(self) -> str:
        """`MODEL, Linf`, or `MODEL`."""
        return f"{self.model}, {short(self.norm)}" if self.norm else self.model


class JunitReport(Report):
    """JUnit XML for CI services: a failure for each gate that failed, an error where there is no valid evidence."""

    suffix: ClassVar[str] = ".junit.xml"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 XML."""
        suites = [suite for part in run.assessments for suite in suites_of(part)]
        root = ElementTree.Element("testsuites", {"name": visible(run.name), **_counts(suites)})
        for suite in suites:
            root.append(_suite(suite))
        ElementTree.indent(root)
        # A lone surrogate is visible already; what is left is text that XML can hold.
        text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        return text + b"\n"


def suites_of(part: Assessment) -> Iterator[Suite]:
    """A suite for what has no norm, if there is anything, and one for each norm, also one that only a gate names."""
    name = part.model.name
    whole = [_gate(part, gate) for gate in part.gates if gate.norm is None]
    if part.status != "valid":
        whole.append(Case("evidence", "error", part.status_reason, part.status))
    if whole:
        yield Suite(name, "", tuple(whole))
    norms = [threat.norm for threat in part.threats] + [gate.norm for gate in part.gates if gate.norm is not None]
    for norm in dict.fromkeys(norms):
        cases = [_gate(part, gate) for gate in part.gates if gate.norm == norm]
        cases += [_level(part, threat) for threat in part.threats if threat.norm == norm]
        cases += [_lost(lost) for lost in part.lost if lost.norm == norm]
        yield Suite(name, norm, tuple(cases))


def _gate(part: Assessment, gate: GatePart) -> Case:
    name, said = f"gate: {gate.gate}", _figure(gate.figure, gate.share)
    if gate.passed:
        return Case(name, said=f"{said}\n{gate.reason}")
    return Case(name, "error" if part.status != "valid" else "failure", gate.reason, "gate", said)


def _level(part: Assessment, threat: ThreatPart) -> Case:
    name = f"th={spoken_level(threat.th)}"
    counts = ("clean_error", "broken", "held", "proven", "invalid")
    robust = threat.robust_accuracy
    said = [
        ", ".join(f"{name} {getattr(threat, name)}" for name in counts) + f", of {threat.samples} samples",
        f"robust accuracy {percent(robust.proven or 0)} to {percent(robust.not_broken or 0)}, {threat.grade}",
        *threat.grade_reasons,
    ]
    attacks = [attack for attack in part.attacks if (attack.norm, attack.th) == (threat.norm, threat.th)]
    seconds = sum(attack.seconds for attack in attacks)
    untouched = threat.adversarial_accuracy is None and not threat.broken and threat.invalid
    if untouched and not attacks and "unfinished" in part.status_reason:
        return Case(name, "skipped", "not attacked yet: the run is unfinished")
    if threat.grade == "invalid":
        reason = "; ".join(threat.grade_reasons) or part.status_reason
        return Case(name, "error", reason, "invalid evidence", "\n".join(said), seconds)
    return Case(name, said="\n".join(said), seconds=seconds)


def _lost(lost: LostPart) -> Case:
    name = f"lost: {lost.what}, th={spoken_level(lost.th)}"
    return Case(name, "error", f"{lost.samples} samples: {lost.reason}", "lost work")


def _figure(name: str, share: Share | None) -> str:
    if share is None or share.value is None or share.low is None or share.high is None:
        return f"{name}: no figure"
    interval = f"95 % interval {percent(share.low)} to {percent(share.high)}"
    return f"{name}: {percent(share.value)} ({share.count} of {share.total}), {interval}"


def _suite(suite: Suite) -> ElementTree.Element:
    skipped = sum(case.kind == "skipped" for case in suite.cases)
    element = ElementTree.Element(
        "testsuite", {"name": visible(suite.name), **_counts([suite]), "skipped": str(skipped)}
    )
    for case in suite.cases:
        facts = {"classname": visible(suite.name), "name": visible(case.name), "time": f"{case.seconds:.3f}"}
        inner = ElementTree.SubElement(element, "testcase", facts)
        if case.kind:
            why = {"message": visible(case.message), **({"type": visible(case.type)} if case.type else {})}
            ElementTree.SubElement(inner, case.kind, why).text = visible(case.message)
        if case.said:
            ElementTree.SubElement(inner, "system-out").text = visible(case.said, keep="\n")
    return element


def _counts(suites: Iterable[Suite]) -> dict[str, str]:
    cases = [case for suite in suites for case in suite.cases]
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.kind == "failure" for case in cases)),
        "errors": str(sum(case.kind == "error" for case in cases)),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
