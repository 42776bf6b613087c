"""Runs as Weights & Biases runs: what was run, progress, and at the end the figures and report.json.

On where CHARPY_WANDB names a project (`1`: charpy). Where it goes is its client's business: WANDB_API_KEY, WANDB_MODE
(`offline` writes to the working directory) and the like. Needs `pip install charpy[wandb]`. One that was killed is
shown as crashed there; resumed, it goes on under the same id.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charpy.hookspecs import hookimpl

if TYPE_CHECKING:
    from charpy.specs import RunSpec

VARIABLE = "CHARPY_WANDB"


class WandbEvents:
    """One W&B run, from the start of a run of charpy to its end."""

    def __init__(self) -> None:
        self._run: Any = None
        self._units = 0
        self._counts: Counter[str] = Counter()

    @hookimpl
    def charpy_run_started(
        self, spec: RunSpec, units: int, run_id: str, done: int, outcomes: Mapping[str, int]
    ) -> None:
        """Open the W&B run, or the one that this run began in."""
        self._run = None
        project = os.environ.get(VARIABLE, "")
        if project in ("", "0"):
            return
        import wandb

        from charpy.reports.flat import settings
        from charpy.reports.inert import visible

        self._units, self._counts = done, Counter(outcomes)
        self._run = wandb.init(
            project="charpy" if project == "1" else project,
            id=run_id or None,
            resume="allow",
            name=visible(spec.name),
            config={**settings(spec), "planned_units": units},
            settings=wandb.Settings(console="off", silent=True),
        )

    @hookimpl
    def charpy_outcomes(self, unit: Mapping[str, Any], outcomes: Mapping[str, int]) -> None:
        """Log how far it is."""
        if self._run is None:
            return
        from charpy.reports.flat import progress

        self._units += 1
        self._counts.update(outcomes)
        self._run.log(progress(self._units, self._counts), step=self._units)

    @hookimpl
    def charpy_run_finished(self, path: str) -> None:
        """Log the figures, the verdicts and report.json, and close the W&B run."""
        if self._run is None:
            return
        import wandb

        from charpy.analysis.summary import RunSummary
        from charpy.reports.flat import figures
        from charpy.reports.inert import visible
        from charpy.reports.json_report import JsonReport
        from charpy.runfile import RunFile

        run, self._run = self._run, None
        with RunFile.open(Path(path)) as file:
            summary = RunSummary.of(file)
            report = JsonReport().render(summary)
        verdict = visible("\n".join(part.verdict for part in summary.assessments), keep="\n")
        run.summary.update({**figures(summary.assessments), "verdict": verdict})
        artifact = wandb.Artifact(f"charpy-report-{run.id}", type="report")
        with artifact.new_file("report.json", mode="wb") as target:
            target.write(report)
        run.log_artifact(artifact)
        run.finish()


plugin = WandbEvents()
