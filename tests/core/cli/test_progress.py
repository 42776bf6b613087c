"""Progress: a bar with the time left on a terminal, a line per level anywhere else; folder names of models."""

from __future__ import annotations

import io
import re
import string

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from charpy.cli import progress as progress_module
from charpy.reports.names import folder_name, folder_names
from charpy.stages import Progress


def test_on_a_terminal_a_bar_shows_what_is_done_and_the_time_left(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(progress_module, "messages", lambda: console)
    monkeypatch.setattr(progress_module, "REDRAW_SECONDS", 0.0)
    with progress_module.progress() as listen:
        for done in range(4):
            for share in (0.0, 0.5):
                listen(Progress(done, 4, share, "a model \u202e  l0 th=3  few_pixel"))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "a model [U+202E]  l0 th=3  few_pixel" in text
    assert "ETA" in text
    assert "88%" in text  # 3.5 of 4
    assert "[progress" not in text  # no markup is left over
    assert "\u202e" not in text


def test_elsewhere_a_line_per_level_at_most(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress_module, "messages", lambda: Console(file=screen, width=160))
    with progress_module.progress() as listen:
        for attack in ("few_pixel", "square"):
            for th in (1, 3):
                for share in (0.1, 0.2, 0.3):
                    listen(Progress(th, 4, share, f"net  l0 th={th}  {attack}"))
        listen(Progress(4, 4, 0.0, ""))
    assert screen.getvalue().splitlines() == [
        "charpy: net  l0 th=1  (1 of 4 units done)",
        "charpy: net  l0 th=3  (3 of 4 units done)",
    ]


ALLOWED = set(string.ascii_letters + string.digits + "._-")


@given(st.text(max_size=300))
def test_a_folder_name_stays_in_its_folder(title):
    name = folder_name(title)
    assert name
    assert set(name) <= ALLOWED
    assert name not in (".", "..")
    assert not name.startswith((".", "-"))
    assert len(name) <= 100


@given(st.lists(st.text(max_size=12), max_size=12))
def test_folder_names_are_distinct_even_where_case_does_not_count(titles):
    names = folder_names(titles)
    assert len(names) == len(titles)
    assert len({name.lower() for name in names}) == len(names)


def test_known_folder_names():
    assert folder_name("models/net.onnx") == "models-net.onnx"
    assert folder_names(["a/b", "a b", "A-b", "../.."]) == ["a-b", "a-b-2", "A-b-3", "unnamed"]
