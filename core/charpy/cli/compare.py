"""`charpy compare`: the models and attacks of one or more runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import NO_EVIDENCE, PASS
from charpy.cli.console import results
from charpy.cli.pages import write_pages
from charpy.cli.runs import opened_runs
from charpy.errors import SpecError
from charpy.plugins import registry
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy.analysis.comparison.document import Comparison

DEFAULT_FOLDER = Path("charpy-comparison")


def compare(*runs: Path, out: Path = DEFAULT_FOLDER, transfer: bool = False) -> int:
    """Compare the models, defences and attacks of one or more runs, sample by sample.

    Writes compare.json, compare.html and compare.md into the output folder and prints the tables. What the runs do not
    hold is named, with the lines of a spec that would give it.

    Args:
        runs: run files, or the folders that hold them, over the same data.
        out: output folder.
        transfer: open the models again and show each the witnesses of the others.
    """
    from charpy.analysis.comparison.compare import compare as compared
    from charpy.reports.compare_html import render_html
    from charpy.reports.compare_markdown import render_markdown
    from charpy.reports.json_report import json_bytes

    if not runs:
        raise SpecError("no run is given", where="charpy compare", expected="one or more run files or their folders")
    with opened_runs(runs) as opened:
        document = compared(opened, transfer_with=registry() if transfer else None)
        pages = {
            "compare.json": json_bytes(document),
            "compare.html": render_html(document),
            "compare.md": render_markdown(document),
        }
    written = write_pages(pages, out, "the comparison")
    _show(document, written)
    return PASS if all(entry.status == "valid" for entry in document.entries) else NO_EVIDENCE


def _show(document: Comparison, written: list[Path]) -> None:
    from charpy.reports.compare_terminal import comparison_tables

    console = results()
    for table in comparison_tables(document):
        console.print(table)
    for note in (*document.notes, *document.warnings):
        console.print(f"note: {visible(note)}")
    for part in document.missing:
        console.print(f"no {part.section}: {part.sentence}")
    console.print()
    for path in written:
        console.print(visible(str(path)), soft_wrap=True)
