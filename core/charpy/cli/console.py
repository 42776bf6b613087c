"""Where commands print: results on stdout, everything else on stderr; text is never read as markup."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where no terminal tells its width."""


def results() -> Console:
    """The console for results."""
    return _console(sys.stdout)


def messages() -> Console:
    """The console for progress."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1; a reader that goes away is not a failed gate

    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Plain(file=stream, width=width, markup=False, emoji=False, highlight=False)
