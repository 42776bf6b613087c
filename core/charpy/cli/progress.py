"""Progress on stderr: a bar with the time that is left on a terminal, one line per level anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from charpy.cli.console import messages
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.console import Console

    from charpy.walk import Progress

REDRAW_SECONDS = 0.1


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """What `evaluate` should tell its progress to, for as long as the block runs."""
    console = messages()
    if not console.is_terminal:
        yield _lines(console)
        return
    with _bar(console) as listen:
        yield listen


def _lines(console: Console) -> Callable[[Progress], None]:
    """A line when a model meets a norm at a level for the first time."""
    seen: set[str] = set()

    def listen(now: Progress) -> None:
        level = now.title.rpartition("  ")[0]
        if level and level not in seen:
            seen.add(level)
            console.print(f"charpy: {visible(level)}  ({now.done} of {now.planned} units done)", soft_wrap=True)

    return listen


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(markup=False),
        TimeElapsedColumn(),
        TextColumn("ETA", markup=False),
        TimeRemainingColumn(),
    )
    drawn = 0.0
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("opening the model and the data", total=None)

        def listen(now: Progress) -> None:
            nonlocal drawn
            if time.monotonic() - drawn < REDRAW_SECONDS:
                return
            drawn = time.monotonic()
            title = visible(now.title) or None
            bar.update(task, total=now.planned, completed=now.done + now.share, description=title)

        yield listen
