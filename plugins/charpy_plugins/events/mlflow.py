"""Runs as MLflow runs: what was run, progress, and at the end the figures and report.json.

On where CHARPY_MLFLOW names an experiment (`1`: charpy). Where it goes is MLflow's business: MLFLOW_TRACKING_URI and
the like. Needs `pip install charpy[mlflow]`. One that did not come to its end is marked FAILED where it still could be,
and stays RUNNING where it was killed; resumed, it is found by its tag and goes on.
"""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charpy.hookspecs import hookimpl

if TYPE_CHECKING:
    from charpy.specs import RunSpec

VARIABLE = "CHARPY_MLFLOW"
TAG = "charpy.run_id"
TAG_CHARACTERS = 5000


class MlflowEvents:
    """One MLflow run, from the start of a run of charpy to its end; it never touches MLflow's active run."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run = ""
        self._units = 0
        self._counts: Counter[str] = Counter()

    @hookimpl
    def charpy_run_started(
        self, spec: RunSpec, units: int, run_id: str, done: int, outcomes: Mapping[str, int]
    ) -> None:
        """Open the MLflow run, or the one that this run began in."""
        self._client = None
        experiment = os.environ.get(VARIABLE, "")
        if experiment in ("", "0"):
            return
        from mlflow import MlflowClient
        from mlflow.entities import Param

        from charpy.reports.flat import settings
        from charpy.reports.inert import visible

        client = MlflowClient()
        name = "charpy" if experiment == "1" else experiment
        known = client.get_experiment_by_name(name)
        where = known.experiment_id if known is not None else client.create_experiment(name)
        begun = client.search_runs([where], f"tags.`{TAG}` = '{run_id}'", max_results=1) if run_id else []
        if begun:
            self._run = begun[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        else:
            tags = {"mlflow.source.name": "charpy", "charpy.planned_units": str(units), TAG: run_id}
            self._run = client.create_run(where, run_name=visible(spec.name), tags=tags).info.run_id
        self._client, self._units, self._counts = client, done, Counter(outcomes)
        atexit.register(self._given_up)
        client.log_batch(self._run, params=[Param(key, value) for key, value in settings(spec).items()])

    @hookimpl
    def charpy_outcomes(self, unit: Mapping[str, Any], outcomes: Mapping[str, int]) -> None:
        """Log how far it is."""
        if self._client is None:
            return
        from charpy.reports.flat import progress

        self._units += 1
        self._counts.update(outcomes)
        self._log(progress(self._units, self._counts), self._units)

    @hookimpl
    def charpy_run_finished(self, path: str) -> None:
        """Log the figures, the verdicts and report.json, and close the MLflow run."""
        if self._client is None:
            return
        from charpy.analysis.summary import RunSummary
        from charpy.reports.flat import figures
        from charpy.reports.inert import visible
        from charpy.reports.json_report import JsonReport
        from charpy.runfile import RunFile

        with RunFile.open(Path(path)) as run:
            summary = RunSummary.of(run)
            report = JsonReport().render(summary).decode("utf-8")
        self._log(figures(summary.assessments), self._units)
        verdict = visible("\n".join(part.verdict for part in summary.assessments), keep="\n")
        self._client.set_tag(self._run, "mlflow.note.content", verdict[:TAG_CHARACTERS])
        self._client.log_text(self._run, report, "report.json")
        self._client.set_terminated(self._run, "FINISHED")
        self._client = None
        atexit.unregister(self._given_up)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def _given_up(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._run, "FAILED")


plugin = MlflowEvents()
