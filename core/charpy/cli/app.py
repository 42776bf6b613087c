"""The `charpy` program: finds the command, runs it, and turns whatever happens into an exit code.

0 pass, 1 a gate failed, 2 usage or refused input, 3 the evidence is invalid or unsound, 4 crash, 130/143 signals.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError, Parameter

from charpy.errors import CharpyError, unknown_name
from charpy.plugins import Entry, Registry, registry
from charpy.reports.inert import visible

PASS, GATE_FAILED, USAGE, NO_EVIDENCE, CRASH = 0, 1, 2, 3, 4
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143

_ABOUT = "Breaks, and proves, image classifiers: L0 and Linf robustness side by side, every figure a bracket."
_MORE = (
    "`charpy COMMAND --help` explains a command. "
    "Exit codes: 0 pass, 1 a gate failed, 2 refused, 3 no valid evidence, 4 crash."
)


class Terminated(BaseException):
    """SIGTERM arrived; what is committed is on disk."""


def main() -> None:
    """Entry point of the `charpy` program."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run_program(sys.argv[1:]))


def run_program(arguments: Sequence[str], plugins: Registry | None = None) -> int:
    """Run `charpy` with `arguments` and return its exit code; nothing but a signal handler's exception leaves here."""
    try:
        code = _dispatch(list(arguments), plugins or registry())
        sys.stdout.flush()
    except CharpyError as error:
        return _complain(str(error), error.exit_code)
    except CycloptsError as error:
        return _complain(f"{error}\n  next:     charpy {_command_of(arguments)}--help", USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from here", INTERRUPTED)
    except Terminated:
        return _complain("terminated; the same command goes on from here", TERMINATED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return PIPE_CLOSED
    except (Exception, SystemExit) as crash:  # noqa: BLE001 - a plugin's or model's sys.exit(0) must not read as a pass
        return _complain(f"{traceback.format_exc()}crashed: {type(crash).__name__}: {crash}", CRASH)
    return code


def build_app(plugins: Registry) -> App:
    """The command line, with every command that exactly one plugin registers; none is imported."""
    app = App(
        name="charpy",
        help=f"{_ABOUT}\n\n{_MORE}",
        version=_version,
        version_flags=["--version"],
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for entry in _commands(plugins):
        summary = visible(entry.summary)
        if isinstance(entry.target, str):
            app.command(entry.target, name=entry.kind, help=summary)
        else:
            app.command(entry.target, name=entry.kind)
    return app


def _dispatch(arguments: list[str], plugins: Registry) -> int:
    if arguments and not arguments[0].startswith("-"):
        _check(plugins, arguments[0])
    code = build_app(plugins)(arguments or ["--help"])
    return PASS if code is None else int(code)


def _check(plugins: Registry, command: str) -> None:
    """Refuse a command that nobody or more than one plugin registers, or that cannot be imported, naming its owner."""
    known = {entry.kind for entry in plugins.entries("commands")}
    if command not in known:
        raise unknown_name("command", command, known, hint="`charpy --help` lists the commands")
    plugins.load("commands", command)


def _commands(plugins: Registry) -> list[Entry]:
    disputed = {entry.kind for owners in plugins.conflicts for entry in owners if entry.hook == "commands"}
    return [entry for entry in plugins.entries("commands") if entry.kind not in disputed]


def _command_of(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and not arguments[0].startswith("-") else ""


def _complain(message: str, code: int) -> int:
    """Print to stderr, inert: names in a message may hold terminal escapes or bidirectional marks."""
    print("charpy: " + visible(message.rstrip("\n"), keep="\n"), file=sys.stderr)
    return code


def _version() -> str:
    from importlib.metadata import version

    return f"charpy {version('charpy')}"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
