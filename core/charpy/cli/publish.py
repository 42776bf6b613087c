"""From a run file to its reports and to what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import GATE_FAILED, NO_EVIDENCE, PASS
from charpy.cli.console import results
from charpy.errors import SpecError
from charpy.reports.inert import visible
from charpy.reports.names import folder_names

if TYPE_CHECKING:
    from charpy.analysis.document import Assessment
    from charpy.analysis.summary import RunSummary
    from charpy.gates import Gate
    from charpy.plugins import Registry

FORMATS = ("json", "html")


def kinds_of(formats: str) -> list[str]:
    """`json,html` as a list of report formats.

    Raises:
        SpecError: there is none.
    """
    kinds = [kind.strip() for kind in formats.split(",") if kind.strip()]
    if not kinds:
        raise SpecError("no report format given", where="--format", found=repr(formats), expected=",".join(FORMATS))
    return list(dict.fromkeys(kinds))


def publish(
    run_file: Path,
    out: Path,
    formats: Sequence[str],
    plugins: Registry,
    *,
    gates: Sequence[Gate] | None = None,
    more: Sequence[Gate] = (),
    source: str = "",
) -> int:
    """Write the reports of a run into `out`, print its tables, verdicts, gates and the paths; returns the exit code.

    `gates` are judged instead of those in the run file, and `more` beside them; `source` is the spec file, as the user
    named it.
    """
    from charpy.analysis.summary import RunSummary
    from charpy.runfile import RunFile
    from charpy.runfile.content import read_as_written
    from charpy.specs import RunSpec, parse

    reports = {kind: plugins.create("reports", kind) for kind in formats}
    with RunFile.open(run_file) as run:
        with read_as_written([run_file]):
            own = parse(RunSpec, run.spec, where=str(run_file)).gates if gates is None else gates
            summary = RunSummary.of(run, gates=(*own, *more), source=source)
        written = []
        for kind, report in reports.items():
            written.append(report.write(summary, out / f"report{report.suffix}"))
            if kind == "json" and len(summary.assessments) > 1:
                written += _one_each(report, summary, out)
    _show(summary)
    console = results()
    for path in [*written, run_file]:
        console.print(visible(str(path)), soft_wrap=True)
    if not all(_is_evidence(part) for part in summary.assessments):
        return NO_EVIDENCE
    return PASS if all(gate.passed for part in summary.assessments for gate in part.gates) else GATE_FAILED


def _is_evidence(part: Assessment) -> bool:
    """Whether the run is valid, lost nothing, and has a figure that means something."""
    meaningless = bool(part.threats) and all(threat.grade == "invalid" for threat in part.threats)
    return part.status == "valid" and not part.lost and not meaningless


def _one_each(report: object, summary: RunSummary, out: Path) -> list[Path]:
    """`DIR/<model>/report.json`: the document of each model of a run over several."""
    from charpy.interfaces.report import Report

    if not isinstance(report, Report):
        return []
    written = []
    names = folder_names(part.model.name for part in summary.assessments)
    for name, part in zip(names, summary.assessments, strict=True):
        (out / name).mkdir(exist_ok=True)
        written.append(
            report.write(replace(summary, assessments=(part,), attackers=()), out / name / f"report{report.suffix}")
        )
    return written


def _show(summary: RunSummary) -> None:
    from charpy.reports.terminal import attackers_table, contest_table, dual_table

    console = results()
    for part in summary.assessments:
        console.print(dual_table(part))
        if part.characteristics:
            console.print(contest_table(part))
        console.print(visible(part.verdict))
        for warning in part.warnings:
            console.print(f"warning: {visible(warning)}")
        for claim in part.rejected:
            text = f"warning: {claim.count} claims of {claim.attack} ({claim.norm}) were rejected: {claim.reason}"
            console.print(visible(text))
        for lost in part.lost:
            text = f"lost: {lost.what} ({lost.norm} th={lost.th}, {lost.samples} samples): {lost.reason}"
            console.print(visible(text), soft_wrap=True)
        for gate in part.gates:
            text = f"gate {'passed' if gate.passed else 'FAILED'}: {gate.gate}: {gate.reason}"
            console.print(visible(text), soft_wrap=True)
        console.print()
    if summary.attackers:
        console.print(attackers_table(summary.attackers))
