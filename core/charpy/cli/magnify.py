"""`charpy magnify`: one sample's witnesses under adversarial magnification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.console import results
from charpy.cli.runs import opened_runs
from charpy.errors import SpecError
from charpy.reports.inert import visible
from charpy.wholefile import replacing

if TYPE_CHECKING:
    from charpy.analysis.sheet import Sheet

DEFAULT_NAME = "magnified.html"


def magnify(
    *runs: Path,
    sample: str | None = None,
    worst: str | None = None,
    norm: str | None = None,
    model: str | None = None,
    out: Path | None = None,
) -> int:
    """Draw a sample and, for every attack, its witness, the scaled perturbation, and both images magnified.

    In a battery an attack runs only on what those before it left standing; give the runs of
    single attacks, or that of a contest, to see all.

    Args:
        runs: run files, or the folders that hold them, over the same data.
        sample: its id, as the report writes it, or its number in the first run, from 0.
        worst: instead, the sample whose witness of this attack is the farthest from its original.
        norm: only the attacks under this norm: l0, l1, l2 or linf.
        model: only this model of the runs.
        out: the .html or .png file to write. Default: magnified.html in the folder of the first run file.
    """
    from charpy.cli.execute import RUN_FILE

    if not runs:
        raise SpecError("no run is given", where="charpy magnify", expected="one or more run files or their folders")
    files = [run / RUN_FILE if os.path.isdir(run) else run for run in runs]
    target = out if out is not None else files[0].parent / DEFAULT_NAME
    if target.suffix.lower() not in (".html", ".png"):
        raise SpecError("unknown kind of file", where="--out", found=str(target), expected="a name in .html or .png")
    sheet = _sheet(files, sample, worst, norm.lower() if norm else None, model)
    _write(_rendered(sheet, target), target)
    console = results()
    for section in sheet.sections:
        for row in section.rows:
            said = f"{row.outcome}, at {row.found.distance:.4g}" if row.found else f"{row.outcome}: {row.reason}"
            console.print(visible(f"{section.model}  {section.norm}  {row.attack}: {said}"), soft_wrap=True)
    console.print(visible(f"sample {sheet.sample} ({sheet.label_name})"), soft_wrap=True)
    console.print(visible(str(target)), soft_wrap=True)
    return 0


def _sheet(files: list[Path], sample: str | None, worst: str | None, norm: str | None, model: str | None) -> Sheet:
    from charpy.analysis.read_sheet import read_sheet, worst_sample

    with opened_runs(files) as opened:
        if sample is not None and worst is None:
            return read_sheet(opened, sample, norm=norm, model=model)
        if worst is not None and sample is None:
            return read_sheet(opened, worst_sample(opened, worst, norm=norm, model=model), norm=norm, model=model)
    raise SpecError(
        "which sample?",
        where="charpy magnify",
        found="both --sample and --worst" if sample is not None else "neither --sample nor --worst",
        expected="one of them",
        hint="--worst ATTACK finds a sample; the report names those of its witnesses",
    )


def _rendered(sheet: Sheet, target: Path) -> bytes:
    from charpy.reports.magnify import views_of
    from charpy.reports.magnify_html import render_page
    from charpy.reports.magnify_png import render_png

    views = views_of(sheet)
    return render_png(views) if target.suffix.lower() == ".png" else render_page(views)


def _write(data: bytes, target: Path) -> None:
    """The whole file or none."""
    from charpy.cli.execute import output_folder

    with output_folder(target.parent):
        try:
            with replacing(target) as partial:
                partial.write_bytes(data)
        except OSError as cause:
            raise SpecError("cannot be written", where=str(target), found=cause.strerror) from None
