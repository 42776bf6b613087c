"""`charpy run`: what a spec file says."""

from __future__ import annotations

from pathlib import Path

from charpy.cli.publish import folder_name


def run(spec: Path, /, *, out: Path | None = None) -> int:
    """Run a spec file: several models, attacks, defences and levels at once.

    Writes run.charpy, report.json and report.html into the output folder, and with several models a report.json for
    each in a folder of its own. The same command again goes on where it stopped.

    Args:
        spec: a YAML file; `charpy schema` prints its JSON Schema.
        out: output folder. Default: charpy-SPEC in the working directory.
    """
    from charpy.cli.execute import execute
    from charpy.specfile import load_spec

    return execute(load_spec(spec), out if out is not None else Path(f"charpy-{folder_name(spec.stem)}"))
