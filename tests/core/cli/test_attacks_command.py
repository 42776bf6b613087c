"""`charpy attacks`: the table of attacks, and the page made from it."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_lists_a_strangers_attack_beside_the_built_in_ones(charpy):
    found = json.loads(charpy("attacks", "--json").out)
    kinds = {row["kind"]: row for rows in found["families"].values() for row in rows}
    assert kinds["few_pixel"]["norms"] == ["l0"]
    assert kinds["few_pixel"]["access"] == "scores"
    assert kinds["few_pixel"]["source"].startswith("Kotyan & Vargas 2020")
    assert kinds["corner_pixels"]["package"] == "charpy-corner-attack"
    text = charpy("attacks").out
    assert "target optimality" in text
    assert "battery standard" in text


def test_a_battery_is_shown_with_its_steps(charpy):
    found = json.loads(charpy("attacks", "--json").out)
    paper = next(battery for battery in found["batteries"] if battery["kind"] == "dual-paper")
    assert paper["steps"]["l0"]["scores"] == ["few_pixel"]
    assert paper["steps"]["linf"]["scores"] == ["threshold"]
    assert paper["steps"]["l0"]["labels"] == []


def test_the_page_in_docs_is_the_current_one(charpy):
    command = ("attacks", "--markdown", "--package", "charpy")
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    assert page == charpy(*command).out, f"write it again: charpy {' '.join(command)} > docs/attacks.md"
