"""The page of ready-made models."""

from __future__ import annotations

from pathlib import Path

from charpy_models.listing import markdown
from charpy_models.plugin import GENERATORS, ZOO, charpy_generators, charpy_models

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_is_what_the_cards_say():
    assert PAGE.read_text(encoding="utf-8") == "\n".join(markdown()) + "\n"


def test_every_network_with_weights_has_one_line():
    lines = [line for line in markdown() if line.startswith("| `")]
    assert sorted(line.split("`")[1] for line in lines) == sorted(
        set(ZOO) & set(charpy_models()) | set(GENERATORS) & set(charpy_generators())
    )


def test_a_line_gives_the_cards_figures():
    (line,) = (line for line in markdown() if line.startswith("| `digits-cnn`"))
    assert "| 38,282 |" in line
    assert "DigitsCNN" in line
