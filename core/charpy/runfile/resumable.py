"""Whether a run that is not finished can be gone on with: what it holds fits itself and what is to be added."""

from __future__ import annotations

from itertools import chain

from charpy.errors import RunFileError
from charpy.runfile.content import read_as_written
from charpy.runfile.runfile import RunFile

FACTS = {"drills": ("model", "norm"), "redraws": ("model",)}
"""What is read of each row of these, beside the tables."""

Engines = dict[str, tuple[str, str | None]]
"""By the name of a model, the ways in which its answers and its gradients were computed."""


def resumable(run: RunFile, *, models: int, samples: int) -> Engines | None:
    """Look at what an unfinished run of so many models and samples holds, before anything is added to it.

    Gives the engines that it was begun with; None for a run that is finished.

    Raises:
        RunFileError: a record does not fit the others or the run, or is none that charpy writes; or the file is of an
            older schema, which is only read.
    """
    with read_as_written([run.path]):
        if run.meta("finished", False):
            return None
        if run.protected == "nothing":
            raise RunFileError(
                "the run cannot be gone on with: its file is of an older schema",
                where=str(run.path),
                hint="finish it with the charpy version that wrote it, or give another --out to begin anew",
            )
        if run.protected == "seal":
            raise _misfit(run, "meta (finished)", "not finished, and sealed", "a seal once it is finished")
        audit = run.audit()
        for record, found, expected in chain(audit.malformed(), audit.misfits()):
            raise _misfit(run, record, found, expected)
        for model in range(models):
            if (stored := len(run.samples(model))) not in (0, samples):
                raise _misfit(run, f"samples (model {model})", f"{stored} samples", f"{samples} samples")
            for unit in run.units(model):
                str(unit["detail"]["engine"])
        for name, fields in FACTS.items():
            for row in run.meta(name, []):
                [row[field] for field in fields]
        "".join(run.meta("warnings", []))
        parts = run.meta("models", [])
        return {str(part["name"]): (part["engine"], part.get("gradient_engine")) for part in parts}


def _misfit(run: RunFile, record: str, found: str, expected: str) -> RunFileError:
    return RunFileError(
        "the run cannot be gone on with: a record does not fit the others",
        where=f"{run.path}: {record}",
        found=found,
        expected=expected,
        hint="`charpy verify RUN` names every such record; keep the file, and give another --out to begin anew",
    )
