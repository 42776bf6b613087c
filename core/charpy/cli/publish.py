"""From a run file to its reports and to what the terminal shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import NO_EVIDENCE, PASS
from charpy.cli.console import results
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy.analysis.document import Assessment
    from charpy.analysis.summary import RunSummary
    from charpy.plugins import Registry

FORMATS = ("json", "html")


def publish(run_file: Path, out: Path, formats: Sequence[str], plugins: Registry) -> int:
    """Write the reports of a run into `out`, print its tables, verdicts and the paths; returns the exit code."""
    from charpy.analysis.summary import RunSummary
    from charpy.runfile import RunFile

    reports = {kind: plugins.create("reports", kind) for kind in formats}
    with RunFile.open(run_file) as run:
        summary = RunSummary.of(run)
        written = []
        for kind, report in reports.items():
            written.append(report.write(summary, out / f"report{report.suffix}"))
            if kind == "json" and len(summary.assessments) > 1:
                written += _one_each(report, summary, out)
    _show(summary)
    console = results()
    for path in [*written, run_file]:
        console.print(visible(str(path)), soft_wrap=True)
    return PASS if all(_is_evidence(part) for part in summary.assessments) else NO_EVIDENCE


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
        console.print()
    if summary.attackers:
        console.print(attackers_table(summary.attackers))


def folder_name(text: str) -> str:
    """`text` as the name of one folder: letters, digits, `.`, `_` and `-`, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:100] or "unnamed"


def folder_names(titles: Iterable[str]) -> list[str]:
    """A distinct folder name for each title, in order."""
    names: list[str] = []
    for title in titles:
        name, number = folder_name(title), 2
        while name.lower() in {taken.lower() for taken in names}:
            name, number = f"{folder_name(title)}-{number}", number + 1
        names.append(name)
    return names
