"""The run as SARIF 2.1.0 (OASIS 2020), for code scanning: what a reviewer of the model should look at.

A result is a gate that failed, a level at which something was broken, an indicator of attack failure that fired, work
that was lost, or a run that is no evidence. It points at the spec file where there is one, else at the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

from charpy.analysis.document import Assessment
from charpy.analysis.verdict import change, percent
from charpy.gates import FIGURES, spoken_level
from charpy.interfaces.report import Report
from charpy.reports.inert import visible
from charpy.reports.trust import TITLES

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

Level = Literal["error", "warning"]


class Rule(NamedTuple):
    """What a result can be about."""

    title: str
    about: str
    level: Level


RULES: dict[str, Rule] = {
    **{
        f"gate/{figure}": Rule(
            f"Gate on {figure}",
            f"The bound of the 95 % interval of {figure} is not as the run demands, or there is no valid evidence.",
            "error",
        )
        for figure in FIGURES
    },
    "outcome/broken": Rule(
        "Adversarial images were found", "At this level images are broken: witnesses are in the run file.", "warning"
    ),
    "outcome/invalid": Rule("No valid evidence", "The run supports no figure.", "error"),
    "outcome/unsound": Rule("A certificate is contradicted", "An attack broke what a certifier had proven.", "error"),
    "outcome/lost": Rule(
        "Work was lost", "The model or a plugin raised, hung, took too much or ended the process.", "error"
    ),
    **{
        f"indicator/{kind}": Rule(title, "An attack may have failed where the model seems to hold.", "warning")
        for kind, title in TITLES.items()
    },
}


class Finding(NamedTuple):
    """One result: its rule, what is said, where in the run, and what else tells it from others of its rule."""

    rule: str
    text: str
    norm: str | None = None
    th: int | None = None
    subject: str = ""


class SarifReport(Report):
    """SARIF 2.1.0 for code scanning: failed gates, broken levels, fired indicators, lost work."""

    suffix: ClassVar[str] = ".sarif"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 JSON."""
        places = {part.model.name: _place(run.source or _reference(part)) for part in run.assessments}
        results = [
            _result(finding, part.model.name, places[part.model.name])
            for part in run.assessments
            for finding in findings(part)
        ]
        warnings = dict.fromkeys(warning for part in run.assessments for warning in part.warnings)
        log = {
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": _driver()},
                    "invocations": [
                        {
                            "executionSuccessful": all(p.status == "valid" and not p.lost for p in run.assessments),
                            "toolExecutionNotifications": [
                                {"level": "warning", "message": _message(warning)} for warning in warnings
                            ],
                        }
                    ],
                    "results": results,
                }
            ],
        }
        return (json.dumps(log, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def findings(part: Assessment) -> Iterator[Finding]:
    """What a reader of `part` should look at, the gravest first."""
    if part.status != "valid":
        yield Finding(f"outcome/{part.status}", part.status_reason)
    for gate in part.gates:
        if not gate.passed:
            yield Finding(
                f"gate/{gate.figure}", f"gate failed: {gate.gate}: {gate.reason}", gate.norm, gate.th, gate.gate
            )
    for lost in part.lost:
        text = f"lost: {lost.what}, {lost.samples} samples: {lost.reason}"
        yield Finding("outcome/lost", text, lost.norm, lost.th, f"{lost.what}: {lost.reason}")
    for threat in part.threats:
        if threat.broken and part.status == "valid":
            correct = threat.broken + threat.held + threat.proven
            share = percent(threat.broken / correct)
            what = change(threat.norm, threat.th)
            text = f"{what} breaks {threat.broken} of {correct} correctly classified images ({share})"
            weak = f"; this is {threat.grade} evidence" if threat.grade != "supported" else ""
            yield Finding("outcome/broken", text + weak, threat.norm, threat.th)
    for sign in part.indicators:
        if sign.fired:
            who = f"{sign.attack}: " if sign.attack else ""
            subject = f"{sign.step}: {sign.attack}"
            yield Finding(f"indicator/{sign.kind}", f"{who}{sign.finding}. {sign.advice}", sign.norm, sign.th, subject)


def _driver() -> dict[str, Any]:
    rules = [
        {
            "id": name,
            "name": "".join(word.capitalize() for word in name.replace("/", "_").split("_")),
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.about},
            "help": {"text": f"{rule.about} See the report of the run."},
            "defaultConfiguration": {"level": rule.level},
        }
        for name, rule in RULES.items()
    ]
    return {"name": "charpy", "version": version("charpy"), "rules": rules}


def _result(finding: Finding, model: str, place: dict[str, Any]) -> dict[str, Any]:
    where = [
        model,
        *([finding.norm] if finding.norm else []),
        *([] if finding.th is None else [f"th={spoken_level(finding.th)}"]),
    ]
    told = ": ".join([", ".join(where), finding.text])
    key = json.dumps([finding.rule, model, finding.norm, finding.th, finding.subject])
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": RULES[finding.rule].level,
        "message": _message(told),
        "locations": [
            {
                "physicalLocation": {"artifactLocation": place, "region": {"startLine": 1}},
                "logicalLocations": [{"name": visible(where[-1]), "fullyQualifiedName": visible("/".join(where))}],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": hashlib.sha256(key.encode()).hexdigest()[:32] + ":1"},
    }


def _message(text: str) -> dict[str, str]:
    """Plain text; `[text](address)` would be a link there (SARIF 2.1.0, 3.11.6)."""
    return {"text": visible(text).replace("](", "] (")}


def _reference(part: Assessment) -> str:
    """The model as the spec refers to it."""
    for model in part.spec.get("models", []):
        if part.model.name in (model.get("name"), model.get("reference"), model.get("kind")):
            return str(model.get("reference") or model.get("kind"))
    return part.model.name


def _place(file: str) -> dict[str, str]:
    """A path as SARIF names it: relative ones to the root of the sources."""
    path = visible(PurePath(file.partition("@")[0]).as_posix())
    if path.startswith("/"):
        return {"uri": "file://" + quote(path)}
    return {"uri": quote(path), "uriBaseId": "%SRCROOT%"}
