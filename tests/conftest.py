"""Fixtures that every test may use."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from charpy.runfile.integrity import SEAL
from charpy.runfile.schema import COLUMNS, row_digest

settings.register_profile("charpy", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("charpy")


def pytest_configure() -> None:
    """A background job ignores SIGINT, and so would every program that a test begins and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; the test is skipped, with the reason, where there is none."""
    folder = os.environ.get("CHARPY_DATA")
    if not folder:
        pytest.skip("needs real data: set CHARPY_DATA to a folder with mnist/, fashion-mnist/ and cifar10/")
    if not (Path(folder) / "mnist").is_dir():
        pytest.skip(f"CHARPY_DATA={folder} holds no mnist/ folder")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _computed_here() -> Iterator[None]:
    """Commands that tests run in their own process compute in it, too: another one takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARPY_SUPERVISE", "0")
        yield


@contextmanager
def _forged(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as run, run:
        yield run
        run.create_function("renewed", -1, lambda table, *row: row_digest(table, row))
        for table, columns in COLUMNS.items():
            run.execute(f"UPDATE {table} SET digest = renewed('{table}', {', '.join(columns)})")
    with path.open("r+b") as file:
        file.seek(SEAL.start)
        file.write(bytes(SEAL.stop - SEAL.start))


@pytest.fixture(scope="session")
def forged() -> Callable[[Path], AbstractContextManager[sqlite3.Connection]]:
    """Changes a run file as somebody would who knows its format: digests renewed, the seal taken off."""
    return _forged


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """No file of this process grows beyond so many bytes in the block: writing fails as on a full disk."""
    return _full_disk
