"""The runs that a command is given, open while it looks at them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.errors import RunFileError

if TYPE_CHECKING:
    from charpy.runfile import RunFile


@contextmanager
def opened_runs(paths: Sequence[Path]) -> Iterator[list[RunFile]]:
    """The run files at `paths`, or in the folders there; closed when the block ends.

    Raises:
        RunFileError: one is not there, cannot be read, is no run file, or holds what charpy does not write.
    """
    from charpy.cli.execute import RUN_FILE
    from charpy.runfile import RunFile
    from charpy.runfile.content import read_as_written

    with ExitStack() as stack:
        opened = []
        for run in paths:
            path = run / RUN_FILE if os.path.isdir(run) else run
            try:
                opened.append(stack.enter_context(RunFile.open(path)))
            except OSError as cause:
                raise RunFileError("the run file cannot be read", where=str(path), found=cause.strerror) from None
        with read_as_written(path / RUN_FILE if os.path.isdir(path) else path for path in paths):
            yield opened
