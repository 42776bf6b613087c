"""Progress of a training: a bar on a terminal, one line an epoch anywhere."""

from __future__ import annotations

import io
import re

from rich.console import Console

from charpy_models import progress as module
from charpy_models.training import Progress

EPOCHS = [
    Progress(1, 2, 1, 2),
    Progress(1, 2, 2, 2),
    Progress(1, 2, 2, 2, 0.5, 0.875),
    Progress(2, 2, 1, 2),
    Progress(2, 2, 2, 2, 0.25),
]


def shown(monkeypatch, **options) -> str:
    screen = io.StringIO()
    monkeypatch.setattr(module, "messages", lambda: Console(file=screen, width=120, **options))
    with module.progress("net [bold]") as listen:
        for now in EPOCHS:
            listen(now)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_elsewhere_a_line_an_epoch(monkeypatch):
    assert shown(monkeypatch, markup=False).splitlines() == [
        "net [bold]: epoch 1/2, mean loss 0.5000, 87.50% of the held-out images",
        "net [bold]: epoch 2/2, mean loss 0.2500",
    ]


def test_on_a_terminal_a_bar_too(monkeypatch):
    text = shown(monkeypatch, markup=False, force_terminal=True)
    assert "net [bold]: epoch 2/2, mean loss 0.2500" in text
    assert "100%" in text
    assert "ETA" in text
    assert "[progress" not in text
