"""The levels of a run as CSV: one row a model, norm and level, safe to open in a spreadsheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from charpy.analysis.document import Assessment, ThreatPart
from charpy.interfaces.report import Report
from charpy.reports.cells import cell

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary

HEAD = (
    "model", "data", "norm", "th", "goal", "queries", "samples", "clean_error", "broken", "held", "proven", "invalid",
    "adversarial_accuracy", "adversarial_low", "adversarial_high",
    "robust_proven", "robust_proven_low", "robust_proven_high",
    "robust_not_broken", "robust_not_broken_low", "robust_not_broken_high",
    "safe", "grade", "grade_reasons", "status", "status_reason",
)  # fmt: skip
"""`robust_proven` and `robust_not_broken` are the two edges of the bracket; `_low` and `_high` its 95 % intervals."""


class CsvReport(Report):
    """A row a model, norm and level: the five counts, the shares with their intervals, the grade."""

    suffix: ClassVar[str] = ".csv"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8, lines end in LF; the names of columns first. A figure that is not there is an empty cell."""
        rows = [HEAD, *(_row(part, threat) for part in run.assessments for threat in part.threats)]
        return "".join(",".join(map(cell, row)) + "\n" for row in rows).encode("utf-8", errors="backslashreplace")


def _row(part: Assessment, threat: ThreatPart) -> tuple[str | int | float | None, ...]:
    safe = next((safe.basis for safe in part.safe if (safe.norm, safe.th) == (threat.norm, threat.th)), None)
    none = (None, None)
    return (
        part.model.name,
        part.dataset.name,
        threat.norm,
        threat.th,
        threat.goal,
        threat.queries,
        threat.samples,
        threat.clean_error,
        threat.broken,
        threat.held,
        threat.proven,
        threat.invalid,
        threat.adversarial_accuracy,
        *(threat.adversarial_interval or none),
        threat.robust_accuracy.proven,
        *(threat.interval.proven or none),
        threat.robust_accuracy.not_broken,
        *(threat.interval.not_broken or none),
        safe,
        threat.grade,
        "; ".join(threat.grade_reasons),
        part.status,
        part.status_reason,
    )
