"""Whether the report beside a run file says what the run file says."""

from __future__ import annotations

import json
from typing import Any

from charpy.analysis.summary import RunSummary
from charpy.errors import CharpyError
from charpy.runfile import RunFile
from charpy.verification.document import Check, Tally

REPORT = "report.json"

COUNTS = ("broken", "held", "proven", "invalid", "clean_error")


def check_report(run: RunFile) -> Check:
    """The counts of `report.json` in the folder of the run file, if there is one, against those of the run file."""
    tally = Tally("report")
    path = run.path.parent / REPORT
    if not path.is_file():
        tally.note(f"there is no {REPORT} beside the run file")
        return tally.check()
    try:
        read = json.loads(path.read_bytes())
        told = {part["model"]["name"]: part for part in read.get("reports", [read])}
        found = {name: _figures(part) for name, part in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as cause:
        tally.wrong(REPORT, f"{type(cause).__name__}: {cause}", "the report of this run")
        return tally.check()
    try:
        made = RunSummary.of(run).assessments
    except CharpyError as cause:
        tally.missing(f"{REPORT}: {cause.what}")
        return tally.check()
    except Exception as cause:  # noqa: BLE001 - whatever was written into the file
        tally.wrong("meta", f"{type(cause).__name__}: {cause}", "what a report is made of")
        return tally.check()
    for part in made:
        expected = _figures(part.model_dump(mode="json", by_alias=True))
        figures = found.get(part.model.name, {})
        for key in sorted(expected.keys() | figures.keys()):
            tally.equal(f"{REPORT}: {part.model.name}: {key}", figures.get(key, "(none)"), expected.get(key, "(none)"))
    return tally.check()


def _figures(part: dict[str, Any]) -> dict[str, Any]:
    """What is counted in the report of one model, by what it is called."""
    figures = {"status": part["status"], "clean": f"{part['clean']['count']} of {part['clean']['total']}"}
    for threat in part["threats"]:
        counted = ", ".join(f"{threat[count]} {count}" for count in COUNTS if count in threat)
        figures[f"{threat['norm']} th={threat['th']}"] = counted
    return figures
