"""`charpy run`: what a spec file says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charpy.cli.publish import FORMATS
from charpy.reports.names import folder_name


def run(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    gate: tuple[str, ...] = (),
    formats: Annotated[str, Parameter("--format")] = ",".join(FORMATS),
) -> int:
    """Run a spec file: several models, attacks, defences and levels at once.

    Writes run.charpy, report.json and report.html into the output folder, and with several models a report.json for
    each in a folder of its own. The same command again goes on where it stopped.

    Args:
        spec: a YAML file; `charpy schema` prints its JSON Schema.
        out: output folder. Default: charpy-SPEC in the working directory.
        gate: one more gate, as in the spec; may be given several times. Exit code 1 if one fails.
        formats: report formats, separated by commas; `charpy plugins` lists them.
    """
    from charpy.cli.execute import execute, with_gates
    from charpy.specfile import load_spec

    asked = with_gates(load_spec(spec), gate)
    folder = out if out is not None else Path(f"charpy-{folder_name(spec.stem)}")
    return execute(asked, folder, formats, source=str(spec))
