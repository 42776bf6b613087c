"""The process that computes: told what by one line of JSON, it says by lines of JSON what it does.

Whatever a model or a plugin prints goes to stderr; the lines are the only thing on stdout. When the supervisor is gone,
so is this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

from charpy.errors import CharpyError, told_of
from charpy.stages import Stage, Watch

REPORT_SECONDS = 0.1

DEAF = 4
"""Exit code where nobody hears what is said: the supervisor is gone, or a stranger's code closed the pipe."""


class _TerminatedError(BaseException):
    """SIGTERM: no `SystemExit`, which is recorded where a stranger's code raises it, and goes no further."""


class _Told(Watch):
    """Says what begins; gives up what it was told to."""

    def __init__(self, channel: IO[str], given_up: Mapping[Stage, str]) -> None:
        self._channel, self._given_up = channel, given_up
        self._said, self._title, self._process = 0.0, "", os.getpid()

    def enter(self, stage: Stage) -> str:
        self.say(stage=stage)
        return self._given_up.get(stage, "")

    def listen(self, now: Any) -> None:
        """Progress: a new title, or a few times a second."""
        if now.title != self._title or time.monotonic() - self._said >= REPORT_SECONDS:
            self._said, self._title = time.monotonic(), now.title
            self.say(progress=[now.done, now.planned, now.share, now.title])

    def say(self, **message: Any) -> None:
        """One line."""
        if os.getpid() != self._process:
            os._exit(1)  # a stranger's code forked, and the fork came back: there is only one evaluator
        try:
            self._channel.write(json.dumps(message) + "\n")
            self._channel.flush()
        except OSError:
            os._exit(DEAF)  # raised where an attack asks, it would be taken for the attack's failure


def main() -> None:
    """Read the job, compute it, say how it ended."""
    signal.signal(signal.SIGTERM, _terminate)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on a stray print is no message
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_supervisor, daemon=True).start()
    told = _Told(channel, {_stage(stage): why for stage, why in job.get("given_up", ())})
    try:
        TASKS[job["task"]](job, told)
    except CharpyError as error:
        told.say(error=[type(error).__name__, _texts(error)])
    except KeyboardInterrupt:
        os._exit(130)
    except _TerminatedError:
        os._exit(143)
    except BaseException as cause:  # noqa: BLE001 - whatever it is, it ends this process and not the other
        traceback.print_exc()
        told.say(crash=told_of(cause))
    else:
        told.say(done=True)
    os._exit(0)  # a stranger's exit handlers and threads have no say any more


def _run(job: Mapping[str, Any], told: _Told) -> None:
    from charpy.evaluator import evaluate
    from charpy.specs import RunSpec, parse

    evaluate(parse(RunSpec, job["spec"]), Path(job["path"]), listen=told.listen, watch=told)


def _verify(job: Mapping[str, Any], told: _Told) -> None:
    from charpy.plugins import registry
    from charpy.verification.verify import Places, verify

    places = Places(job["models"], job["data"], job["data_dir"])
    for check in verify(Path(job["path"]), places, registry(), listen=told.listen, watch=told):
        told.say(value=check.model_dump(mode="json"))


TASKS: Mapping[str, Callable[[Mapping[str, Any], _Told], None]] = {"run": _run, "verify": _verify}
"""What a job may ask for; what it finds piece by piece is said as `value`."""


def _texts(error: CharpyError) -> dict[str, str | None]:
    shown = {"found": error.found, "expected": error.expected}
    return {
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        **{name: None if value is None else str(value) for name, value in shown.items()},
    }


def _stage(parts: Any) -> Stage:
    kind, title, key = parts
    return Stage(kind, title, tuple(key))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError


def _end_with_the_supervisor() -> None:
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # and what it left behind
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
