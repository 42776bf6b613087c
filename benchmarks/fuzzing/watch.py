"""One input at a door, watched: how long, how much memory, what is written where, and what is raised."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from charpy.errors import CharpyError
from fuzzing.door import Door, WrongAnswerError

LONGEST = 10.0
"""Seconds of processor time that an input may take: what takes longer hangs."""

ASLEEP = 180.0
"""Seconds on the clock: what takes longer waits for ever, even on a machine that has little time for it."""

OUT_OF_MEMORY = 71
"""Exit code of a process that one input made too large."""

_OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.utime"}
)
_REACHES_OUT = frozenset(
    {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
)
_OURS = (f"{os.sep}charpy{os.sep}", f"{os.sep}charpy_plugins{os.sep}", f"{os.sep}charpy_models{os.sep}")


@dataclass(frozen=True)
class Finding:
    """An input whose answer is neither a result nor one of charpy's errors; `key` is what it is told by."""

    kind: str
    place: str
    told: str = field(compare=False, default="")

    @property
    def key(self) -> str:
        """Findings with the same key are one."""
        return f"{self.kind} at {self.place}"


class _Audit:
    """What the interpreter reports of files, processes and sockets while an input is open."""

    def __init__(self) -> None:
        self.folder, self.others = "", list[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if mode else bool((flags or 0) & _OPEN_TO_WRITE)
            if writes and isinstance(path, str | bytes):
                self._written(event, path)
        elif event in _CHANGES:
            known = not any(isinstance(part, int) and part > 0 for part in arguments[-2:]) or event == "os.mkdir"
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and (known or os.path.isabs(path)):
                    self._written(event, path)
        elif event in _REACHES_OUT:
            self.others.append(f"{event} {arguments}"[:300])

    def _written(self, event: str, path: str | bytes | os.PathLike[str]) -> None:
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith(self.folder) and name != os.devnull:
            self.others.append(f"{event} {name}")


_audit: _Audit | None = None


@contextmanager
def _audited(folder: Path) -> Iterator[list[str]]:
    """Collects what is written outside `folder`, and what reaches out of the process."""
    global _audit
    if _audit is None:
        _audit = _Audit()
    _audit.folder, _audit.others = str(folder), []
    try:
        yield _audit.others
    finally:
        _audit.folder = ""


def look(door: Door, data: bytes, folder: Path) -> Finding | None:
    """What is wrong with charpy's answer to `data`; None where nothing is. `folder` is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    (folder / "tmp").mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder / "tmp")
    try:
        with warnings.catch_warnings(), _audited(folder) as others:
            warnings.simplefilter("ignore")
            found = _opened(door, data, folder / "in")
    finally:
        tempfile.tempdir = before
    if found is None and others:
        return Finding("reaches out of its folder", others[0].split(" ")[0], "\n".join(others))
    return found


def _opened(door: Door, data: bytes, folder: Path) -> Finding | None:
    try:
        door.open(data, folder)
    except CharpyError as error:
        if error.what and error.where:
            return None
        return Finding(f"{type(error).__name__} without where", place_of(error), _told(error))
    except KeyboardInterrupt:
        raise
    except WrongAnswerError as error:
        return Finding("wrong answer", str(error).partition(":")[0], _told(error))
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return Finding(type(error).__name__, place_of(error), _told(error))
    return None


def place_of(error: BaseException) -> str:
    """File and function of charpy that raised, or called what raised."""
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if any(part in frame.filename for part in _OURS)
    ]
    if not ours:
        return "(outside charpy)"
    return f"{ours[-1].filename.rpartition(os.sep)[2]}:{ours[-1].name}"


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-12))[-6000:]


class Guard:
    """Ends this process where one input hangs or fills the memory; its stack is written to stderr first."""

    def __init__(self, memory_gib: float) -> None:
        self._most = memory_gib * 2**30
        self._process = psutil.Process()
        faulthandler.register(signal.SIGPROF, chain=True)  # whose own end is that of the process
        threading.Thread(target=self._watch_memory, daemon=True).start()

    def _watch_memory(self) -> None:
        while True:
            time.sleep(0.2)
            if self._process.memory_info().rss > self._most:
                faulthandler.dump_traceback(all_threads=True)
                os._exit(OUT_OF_MEMORY)

    @contextmanager
    def input(self) -> Iterator[None]:
        """While one input is open."""
        faulthandler.dump_traceback_later(ASLEEP, exit=True)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
