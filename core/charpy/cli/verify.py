"""`charpy verify`: is a run file what it says it is? Checked without the attacks that made it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from charpy.cli.app import NO_EVIDENCE, PASS
from charpy.cli.console import messages, results
from charpy.cli.progress import bar_on
from charpy.errors import ChangedError, SpecError

if TYPE_CHECKING:
    from charpy.specs import LimitsSpec
    from charpy.stages import Progress
    from charpy.verification.document import Check, Verification


def verify(
    run: Path,
    /,
    *,
    model: Annotated[list[str] | None, Parameter("--model")] = None,
    data: str | None = None,
    data_dir: Path | None = None,
    as_json: Annotated[bool, Parameter("--json")] = False,
) -> int:
    """Check a run file without the attacks that made it: bytes, records, plan, data, models, every witness.

    Models are opened anew, in a process of its own, and asked about every image again. Exit code 0: all agrees; 3:
    something differs, or could not be checked, and is named; 2: refused.

    Args:
        run: run.charpy, or the folder that holds it.
        model: where a model lies now, if it was moved: NAME=REFERENCE, with its name in the report. Several times for
            several models.
        data: where the data lies now, if it was moved: a name, FILE.npz, or a folder of images.
        data_dir: where data sets are found that are given by name. Default: where they were.
        as_json: print everything that was found as JSON; `charpy schema --verification` describes it.
    """
    from charpy.cli.execute import RUN_FILE
    from charpy.cli.references import data_of
    from charpy.plugins import registry
    from charpy.verification.document import Check, Disagreement, Verification

    path = run / RUN_FILE if os.path.isdir(run) else run
    places = {
        "models": _references(model or []),
        "data": None if data is None else data_of(data, data_dir, registry()),
        "data_dir": None if data_dir is None else str(data_dir),
    }
    run_id = ""
    try:
        run_id, limits, reported = _opened(path)
        checks = [*_computed(path, places, limits), reported]
    except ChangedError as cause:
        told = Disagreement(record=str(path), found=str(cause.found), expected="the bytes that were written")
        checks = [Check(name="bytes", checked=1, disagreements=(told,))]
    found = Verification.of(str(path), run_id, checks)
    _show(found, as_json)
    return PASS if found.verdict == "agrees" else NO_EVIDENCE


def _opened(path: Path) -> tuple[str, LimitsSpec, Check]:
    """The run's id, its limits, and what is said of it by the report beside it."""
    from charpy.analysis.reported import check_report
    from charpy.runfile import RunFile
    from charpy.runfile.content import read_as_written
    from charpy.specs import RunSpec, parse

    with RunFile.open(path) as run, read_as_written([path]):
        return str(run.meta("run_id", "")), parse(RunSpec, run.spec, where=str(path)).limits, check_report(run)


def _computed(path: Path, places: dict[str, Any], limits: LimitsSpec) -> list[Check]:
    """Every check that asks a model or the data, in another process; with CHARPY_SUPERVISE=0 in this one."""
    from charpy.verification.document import Check, Disagreement

    with _progress() as listen:
        if os.environ.get("CHARPY_SUPERVISE") == "0":
            from charpy.plugins import registry
            from charpy.verification.verify import Places
            from charpy.verification.verify import verify as verified

            return list(verified(path, Places(**places), registry(), listen=listen))
        from charpy.supervisor import attempt

        checks: list[Check] = []
        job = {"task": "verify", "path": str(path), **places}
        end = attempt(job, limits, listen, lambda value: checks.append(Check.model_validate(value)))
        if end is not None:
            told = Disagreement(record=end.stage.title, found=end.why, expected="an answer")
            missing = (f"what comes after this: {end.stage.title}",)
            checks.append(Check(name="the process", checked=1, disagreements=(told,), not_verified=missing))
        return checks


def _references(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, sign, reference = text.partition("=")
        if not (name and sign and reference):
            expected = "NAME=REFERENCE, such as mine=there/model.onnx"
            raise SpecError("no name and reference", where="--model", found=repr(text), expected=expected)
        found[name] = reference
    return found


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line for each thing that is asked anywhere else."""
    console = messages()
    with bar_on(console) as bar:
        task, seen = bar.add_task("verifying", total=None), set[str]()

        def listen(now: Progress) -> None:
            from charpy.reports.inert import visible

            bar.update(task, total=now.planned, completed=now.done, description=visible(now.title))
            if not console.is_terminal and now.title not in seen:
                seen.add(now.title)
                console.print(f"charpy: {visible(now.title)}  ({now.planned})", soft_wrap=True)

        yield listen


def _show(found: Verification, as_json: bool) -> None:
    import sys

    from charpy.reports.json_report import json_bytes
    from charpy.reports.verify_terminal import verification_lines, verification_table

    if as_json:
        sys.stdout.write(json_bytes(found).decode())
        return
    console = results()
    console.print(verification_table(found))
    for line in verification_lines(found):
        console.print(line, soft_wrap=True)
