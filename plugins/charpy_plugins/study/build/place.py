"""Where a study file goes: never over another study unless that is wanted, and never over one with answers."""

from __future__ import annotations

from pathlib import Path

from charpy.errors import DataError, SpecError
from charpy_plugins.study.studyfile import Study, read_study, write_study

ANSWERS = ".answers.sqlite"
"""What follows the name of a study file in that of its answers."""


def check_place(path: Path) -> None:
    """Refuse a place that no file can be written to, before anything is computed.

    Raises:
        SpecError: it is a folder, or lies in a folder that is not there.
    """
    if path.is_dir() or not path.parent.is_dir():
        expected = "the name of a file in a folder that is there"
        raise SpecError("the study cannot be written", where=str(path), expected=expected)


def place(study: Study, path: Path, *, force: bool) -> None:
    """Write `study` to `path`; the same study again is written again.

    Raises:
        SpecError: another study, or another file, is there.
        DataError: it cannot be written.
    """
    if path.exists():
        found = _found(path)
        if found == study.document.fingerprint:
            write_study(study, path)
            return
        answers = next(
            (file for file in map(path.with_name, (path.name + ANSWERS, path.stem + ANSWERS)) if file.exists()), None
        )
        what = "no study file" if found is None else f"a study with the fingerprint {found[:16]}"
        if answers is not None:
            raise SpecError(
                "another study with answers is there",
                where=str(path),
                found=f"{what}, and {answers.name} beside it",
                hint="give another --out, or move both files away",
            )
        if not force:
            raise SpecError(
                "another study is there",
                where=str(path),
                found=what,
                expected=f"{study.document.fingerprint[:16]}, or no file",
                hint="give another --out, or --force to lose what is there (painted images too)",
            )
    write_study(study, path)


def _found(path: Path) -> str | None:
    """The fingerprint of the study at `path`; None where there is none."""
    try:
        return read_study(path).document.fingerprint
    except DataError:
        return None
