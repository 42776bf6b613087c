"""Progress of a training on stderr: a bar on a terminal, and one line an epoch in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from charpy.cli.console import messages
from charpy.cli.progress import bar_on

if TYPE_CHECKING:
    from charpy_models.training import Listener, Progress


@contextmanager
def progress(name: str) -> Iterator[Listener]:
    """What `fit` should tell its progress to, for as long as the block runs; `name` is the training's."""
    console = messages()
    with bar_on(console) as bar:
        task = bar.add_task(name, total=None)

        def listen(now: Progress) -> None:
            done = (now.epoch - 1) * now.steps + now.step
            title = f"{name}: epoch {now.epoch}/{now.epochs}"
            bar.update(task, total=now.epochs * now.steps, completed=done, description=title)
            if now.loss is not None:
                held_out = "" if now.kept is None else f", {now.kept:.2%} of the held-out images"
                console.print(f"{title}, mean loss {now.loss:.4f}{held_out}", soft_wrap=True)

        yield listen
