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
    from rich.progress import Progress as Bar

    from charpy.stages import Progress

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


def bar_on(console: Console) -> Bar:
    """A bar with its share, the time so far and the time left; gone when it is over, and no bar on no terminal."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn("{task.percentage:>3.0f}%", markup=False),
        TimeElapsedColumn(),
        TextColumn("ETA", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    drawn = 0.0
    with bar_on(console) as bar:
        task = bar.add_task("opening the model and the data", total=None)

        def listen(now: Progress) -> None:
            nonlocal drawn
            if time.monotonic() - drawn < REDRAW_SECONDS:
                return
            drawn = time.monotonic()
            title = visible(now.title) or None
            bar.update(task, total=now.planned, completed=now.done + now.share, description=title)

        yield listen
