"""`charpy report`: the reports of a run that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charpy.cli.publish import FORMATS, publish
from charpy.errors import SpecError
from charpy.plugins import registry


def report(
    run: Path, /, *, formats: Annotated[str, Parameter("--format")] = ",".join(FORMATS), out: Path | None = None
) -> int:
    """Write the reports of a run file, finished or not, and print its tables and verdicts.

    Args:
        run: run.charpy, or the folder that holds it.
        formats: report formats, separated by commas; `charpy plugins` lists them.
        out: output folder. Default: the folder of the run file.
    """
    from charpy.cli.execute import RUN_FILE

    run_file = run / RUN_FILE if run.is_dir() else run
    kinds = [kind.strip() for kind in formats.split(",") if kind.strip()]
    if not kinds:
        raise SpecError("no report format given", where="--format", found=repr(formats), expected="html,json")
    folder = out if out is not None else run_file.parent
    if run_file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
    return publish(run_file, folder, list(dict.fromkeys(kinds)), registry())
