"""A run file exported into a folder: all of what was asked for, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from charpy.errors import RunFileError, SpecError
from charpy.reports.exported.images import manifest
from charpy.reports.exported.parquet import check_parquet, write_parquet
from charpy.reports.exported.tables import Names, tables
from charpy.reports.table import Table, code_book
from charpy.runfile import RunFile

FORMATS = ("csv", "parquet", "png")


def export_run(run: RunFile, formats: Sequence[str], out: Path, tell: Callable[[str], None]) -> list[Path]:
    """Write the tables and images of `run` into the new folder `out`; what stands there afterwards, in order.

    Rows and images go from the run file to disk one by one: memory does not grow with the run.

    Args:
        formats: of `FORMATS`; png writes the images, and a manifest of them.
        tell: told what begins.

    Raises:
        SpecError: an unknown format, Parquet without pyarrow, or `out` is there and not empty, or cannot be written.
        RunFileError: the run holds nothing yet.
    """
    _check(run, formats, out)
    tabular = [kind for kind in formats if kind != "png"] or ["csv"]
    partial = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        names, book = Names(run), list[Table[Any]]()
        if set(formats) - {"png"}:
            for table in tables(run, names):
                tell(table.name)
                _write(table, tabular, partial)
                book.append(table)
        if "png" in formats:
            tell("images")
            listed = manifest(run, names, partial)
            _write(listed, ["csv"] if "csv" in tabular else tabular, partial)  # its rows come once
            book.append(listed)
        (partial / "codebook.md").write_bytes(_codebook(run, tabular, book))
        partial.chmod(0o755)
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as cause:
        raise SpecError("the export cannot be written", where=str(out), found=cause.strerror) from None
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
    return sorted(out.iterdir())


def _check(run: RunFile, formats: Sequence[str], out: Path) -> None:
    for kind in formats:
        if kind not in FORMATS:
            raise SpecError("unknown format", where="--format", found=repr(kind), expected=", ".join(FORMATS))
    if "parquet" in formats:
        check_parquet()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SpecError(
            "something is there already",
            where=str(out),
            expected="a folder that is new or empty",
            hint="give another --out",
        )
    if run.meta("dataset") is None or not run.meta("models"):
        raise RunFileError("nothing was assessed yet", where=str(run.path), hint="run the same command again")


def _write(table: Table[Any], kinds: Sequence[str], out: Path) -> None:
    for kind in kinds:
        path = out / f"{table.name}.{kind}"
        if kind == "csv":
            with path.open("wb") as file:
                file.writelines(table.csv_lines())
        else:
            write_parquet(table, path)


def _codebook(run: RunFile, kinds: Sequence[str], book: Sequence[Table[Any]]) -> bytes:
    state = "finished" if run.meta("finished", False) else "NOT finished: rows of what was not done yet are missing"
    head = [
        "# Code book",
        "",
        f"Run `{run.meta('run_id', '')}`, {state}. Files: {', '.join(f'*.{kind}' for kind in kinds)}.",
        "",
        "CSV is UTF-8, lines end in LF, a point is the decimal mark, an empty cell is no value. Before a text that "
        "begins with one of = + - @ or an apostrophe stands an apostrophe, so that no spreadsheet runs it; hidden "
        "characters stand as `[U+000A]`. Parquet holds texts as they are.",
    ]
    return code_book(head, book)
