"""`charpy report`: the reports of a run that is there already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charpy.cli.publish import FORMATS, kinds_of, publish
from charpy.plugins import registry


def report(
    run: Path,
    /,
    *,
    formats: Annotated[str, Parameter("--format")] = ",".join(FORMATS),
    out: Path | None = None,
    gate: tuple[str, ...] = (),
) -> int:
    """Write the reports of a run file, finished or not, and print its tables, verdicts and gates.

    Args:
        run: run.charpy, or the folder that holds it.
        formats: report formats, separated by commas; `charpy plugins` lists them.
        out: output folder. Default: the folder of the run file.
        gate: one more gate, beside those that the run was made with; may be given several times. Exit code 1 if one
            fails.
    """
    from charpy.cli.execute import RUN_FILE
    from charpy.gates import gate_of

    run_file = run / RUN_FILE if os.path.isdir(run) else run
    kinds = kinds_of(formats)
    folder = out if out is not None else run_file.parent
    more = [gate_of(text, "--gate") for text in gate]
    if os.path.isfile(run_file):
        folder.mkdir(parents=True, exist_ok=True)
    return publish(run_file, folder, kinds, registry(), more=more)
