"""A study file that others may write or put before people meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charpy.errors import DataError
from charpy_plugins.study.build.place import ANSWERS
from charpy_plugins.study.studyfile import Study, read_study


def answers_of(study: Path) -> Path | None:
    """The database beside a study file that says that it was put before people; None where there is none."""
    beside = map(study.with_name, (study.name + ANSWERS, study.stem + ANSWERS))
    return next((file for file in beside if file.exists()), None)


def check_thawed(study: Path) -> None:
    """Refuse a study that has answers.

    Raises:
        DataError: naming the database.
    """
    if (found := answers_of(study)) is not None:
        raise DataError(
            "the study is frozen: it was put before people",
            where=str(study),
            found=f"answers in {found}",
            hint="--out NEW.study paints in a copy, which is another study",
        )


def read_now(path: Path) -> tuple[Study, str]:
    """The study, and the SHA-256 of its file; both of one moment."""
    for _ in range(5):
        before = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        study = read_study(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() == before:
            return study, before
    raise DataError("the study is being written all the time", where=str(path), hint="try again in a moment")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other editors from writing into the folder of the study meanwhile, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
