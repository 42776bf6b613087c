"""Runs the evaluator in a process of its own, and survives it: what kills that process costs one stage of the run.

A process that ends before it said that it is done, is silent for too long, or takes too much, is started again and goes
on where the run file stands. What it was doing is tried once more; if that ends it again, this stage is given up: its
samples are invalid, with the reason.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from charpy import errors
from charpy.errors import CharpyError, ModelError, WorkerError
from charpy.specs import LimitsSpec, RunSpec
from charpy.stages import NEEDED, Progress, Stage

TRIES = 2
"""How often a stage may end the process before it is given up."""

LOOK_SECONDS = 0.5
"""How often the limits are looked at."""

START_SECONDS = 300.0
"""For a process to start and to import what it needs; its own limits count from its first message."""

PATIENCE = 10.0
"""Seconds for a process that was asked to end."""


def supervise(spec: RunSpec, path: Path, listen: Callable[[Progress], None] | None = None) -> None:
    """As `evaluate`, in another process.

    Raises:
        CharpyError: what the evaluator refused.
        ModelError: the process ended twice while it opened or tried a model.
        WorkerError: the evaluator itself crashed.
    """
    ended: dict[Stage, list[str]] = {}
    job = {"task": "run", "spec": spec.model_dump(mode="json"), "path": str(path)}
    while True:
        given_up = [(stage, _reason(whys)) for stage, whys in ended.items() if len(whys) >= TRIES]
        end = attempt({**job, "given_up": given_up}, spec.limits, listen)
        if end is None:
            return
        whys = ended.setdefault(end.stage, [])
        whys.append(end.why)
        if len(whys) >= TRIES and end.stage.kind in NEEDED:
            raise ModelError(
                "the process ends there, each time",
                where=end.stage.title,
                found=_reason(whys),
                hint="what it printed stands above; look at the model, or at `limits` in the spec",
            )


@dataclass(frozen=True)
class End:
    """At which stage a process ended, and how, in words."""

    stage: Stage
    why: str


def attempt(
    job: Mapping[str, Any],
    limits: LimitsSpec,
    listen: Callable[[Progress], None] | None = None,
    take: Callable[[Any], None] | None = None,
) -> End | None:
    """Do a job in another process, once: how that ended before it was done, None when it was.

    Args:
        job: its `task`, one of `charpy.supervised.TASKS`, and what that needs.
        limits: what the process may use.
        listen: told about progress.
        take: given each value that the task says.

    Raises:
        CharpyError: what the task refused.
        WorkerError: it crashed before it began.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "charpy.supervised"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # an interrupt from the terminal comes to us alone; we pass it on
    )
    try:
        return _listen(process, job, limits, listen, take)
    except CharpyError:
        raise  # it has said how it ended
    except BaseException:
        _interrupt(process)
        raise
    finally:
        _kill(process)
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # a job that was never read is still in the buffer
                process.stdin.close()


def _listen(
    process: subprocess.Popen[str],
    job: Mapping[str, Any],
    allowed: LimitsSpec,
    listen: Callable[[Progress], None] | None,
    take: Callable[[Any], None] | None,
) -> End | None:
    stage = Stage("open", "starting")
    limits = _Limits(allowed, process)
    if process.stdin is None or process.stdout is None:
        raise WorkerError("the process has no pipes")
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        process.stdout.close()
        return End(stage, _ending(process))
    for message in _messages(process, process.stdout):
        if message is None:
            if why := limits.exceeded():
                _kill(process)
                return End(stage, why)
            continue
        limits.heard()
        if "stage" in message:
            kind, title, key = message["stage"]
            stage = Stage(kind, title, tuple(key))
            limits.begin()
        elif "progress" in message and listen is not None:
            listen(Progress(*message["progress"]))
        elif "value" in message and take is not None:
            take(message["value"])
        elif "error" in message:
            raise _error(*message["error"])
        elif "crash" in message and stage.kind in NEEDED:
            raise WorkerError(f"crashed: {message['crash']}", where=stage.title)
        elif "crash" in message:
            return End(stage, f"it raised {message['crash']}")
        elif "done" in message:
            return None
    return End(stage, _ending(process))


class _Limits:
    """What one process may take, and whether it took more."""

    def __init__(self, spec: LimitsSpec, process: subprocess.Popen[str]) -> None:
        import psutil

        self._spec, self._process = spec, psutil.Process(process.pid)
        self._began = self._heard = time.monotonic()
        self._started = False

    def begin(self) -> None:
        """Another stage begins."""
        self._began = time.monotonic()

    def heard(self) -> None:
        """A sign of life."""
        self._heard, self._started = time.monotonic(), True

    def exceeded(self) -> str:
        """The limit that was exceeded, in words; '' for none."""
        import psutil

        now, spec = time.monotonic(), self._spec
        if not self._started:
            return f"it did not start in {START_SECONDS:g} s" if now - self._began > START_SECONDS else ""
        if spec.unit_seconds is not None and now - self._began > spec.unit_seconds:
            return f"it took longer than {spec.unit_seconds:g} s (limits.unit_seconds)"
        if now - self._heard > spec.silent_seconds:
            return f"it hung: no sign of life for {spec.silent_seconds:g} s (limits.silent_seconds)"
        if spec.memory_gib is not None:
            try:
                used = self._process.memory_info().rss / 2**30
            except psutil.Error:
                return ""  # it has ended, which its pipe will tell
            if used > spec.memory_gib:
                return f"it used more than {spec.memory_gib:g} GiB (limits.memory_gib)"
        return ""


def _messages(process: subprocess.Popen[str], pipe: IO[str]) -> Iterator[dict[str, Any] | None]:
    """Each message; None whenever it is time to look at the limits.

    Ends with the pipe, or with the process: a process of its own that it left behind may hold the pipe open.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        try:
            with pipe:
                for line in pipe:
                    lines.put(line)
        finally:
            lines.put("")

    threading.Thread(target=read, daemon=True).start()
    looked = time.monotonic()
    while True:
        ended = process.poll() is not None
        line: str | None
        try:
            line = lines.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            line = "" if ended else None
        if line == "":
            return
        if line is not None and line.endswith("\n"):
            try:
                message = json.loads(line)
            except ValueError:
                message = None  # a stranger's code found the pipe and wrote there, too
            if isinstance(message, dict):
                yield message
        if time.monotonic() - looked >= LOOK_SECONDS:
            looked = time.monotonic()
            yield None


def _ending(process: subprocess.Popen[str]) -> str:
    """How a process ended, in words."""
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        _kill(process)
        return "it closed its pipe and did not end"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"it was killed by {name}"
    return f"it ended itself with exit code {code}"


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Ask it to end: what is committed is on disk."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


def _kill(process: subprocess.Popen[str]) -> None:
    """End it, and what it left behind: that holds its pipe, its memory and the lock of the run file."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _reason(whys: list[str]) -> str:
    first, last = whys[0], whys[-1]
    told = f"{first}, twice" if first == last else f"{first}; tried again, {last}"
    return f"the process did not survive it: {told}"


def _error(name: str, texts: dict[str, Any]) -> CharpyError:
    kind = getattr(errors, name, CharpyError)
    what = texts.pop("what")
    made: CharpyError = kind(what, **texts) if issubclass(kind, CharpyError) else CharpyError(what, **texts)
    return made
