"""The command contract: a plugin adds `charpy NAME` to the command line."""

from __future__ import annotations

from typing import Any, Protocol


class Command(Protocol):
    """Any callable: its signature is the command line (cyclopts reads it), its docstring the help.

    It returns the exit code: 0 pass, 1 a gate failed, 2 usage, 3 evidence invalid or unsound, 4 crash; None is 0.
    """

    def __call__(self, *args: Any, **options: Any) -> int | None:
        """Do it."""
