"""`charpy export`: a model as an ONNX file, or a run as tables and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charpy.cli.console import messages, results
from charpy.errors import SpecError
from charpy.plugins import registry
from charpy.reports.inert import visible


def export(
    what: str,
    out: Path | None = None,
    /,
    *,
    formats: Annotated[str | None, Parameter("--format")] = None,
    folder: Annotated[Path | None, Parameter("--out")] = None,
) -> int:
    """Write a model as an ONNX file that has been checked to answer like it, or a run as tables and images.

    Args:
        what: a model: a zoo name (digits-cnn), package.module:callable, or weights.safetensors@architecture; or a run:
            run.charpy, or the folder that holds it.
        out: of a model: the .onnx file to write; one that is there is replaced.
        formats: of a run: csv, parquet, png, separated by commas. Default: csv.
        folder: of a run: the folder to write, new or empty. Default: export, in the folder of the run file.
    """
    run = _run_file(what)
    if run is None:
        if formats is not None or folder is not None:
            hint = "give a run file or the folder that holds it, or leave --format and --out away"
            raise SpecError("only a run has formats", where="charpy export", found=what, hint=hint)
        if out is None:
            raise SpecError("no file to write to", where="charpy export", expected="charpy export MODEL OUT.onnx")
        return _model(what, out)
    if out is not None:
        raise SpecError(
            "a run is exported into a folder", where="charpy export", found=str(out), expected="--out FOLDER"
        )
    return _run(run, formats, folder)


def _run_file(what: str) -> Path | None:
    """The run file that is meant, if one is."""
    from charpy.cli.execute import RUN_FILE

    path = Path(what)
    if (path / RUN_FILE).is_file():
        return path / RUN_FILE
    if path.suffix == Path(RUN_FILE).suffix or (path.is_file() and _starts_as_sqlite(path)):
        return path
    return None


def _starts_as_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


def _run(run: Path, formats: str | None, folder: Path | None) -> int:
    from charpy.cli.runs import opened_runs
    from charpy.reports.exported.export import export_run

    kinds = ["csv"] if formats is None else [part.strip() for part in formats.split(",") if part.strip()]
    if not kinds:
        raise SpecError("no format given", where="--format", found=repr(formats), expected="csv,parquet,png")
    said, progress = results(), messages()

    def tell(name: str) -> None:
        progress.print(f"charpy: {visible(name)}", soft_wrap=True)

    with opened_runs([run]) as (opened,):
        target = folder if folder is not None else run.parent / "export"
        for path in export_run(opened, list(dict.fromkeys(kinds)), target, tell):
            said.print(visible(str(path)), soft_wrap=True)
    return 0


def _model(reference: str, out: Path) -> int:
    from charpy.specs import ModelSpec, parse
    from charpy.subjects import subject_of

    if out.is_dir() or not out.parent.is_dir():
        raise SpecError("cannot be written", where=str(out), expected="the name of a file in a folder that is there")
    opened = subject_of(parse(ModelSpec, {"reference": reference}, where="charpy export"), registry()).open()
    facts = opened.export(out)
    console = results()
    console.print(visible(str(out)), soft_wrap=True)
    for name, value in facts.items():
        console.print(visible(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"))
    return 0
