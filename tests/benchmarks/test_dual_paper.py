"""The reproduction of the dual paper: its runs are valid specs, and its page is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from charpy.plugins import registry
from charpy.specfile import load_spec, read_mapping
from charpy.specs import RunSpec, parse

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import dual_paper
    import dual_published
    import reproduction

    return dual_paper, reproduction, dual_published


COUNTS = {"levels": 100, "optimisers": 20, "minimal": 20, "population": 20}


def test_the_example_is_a_spec_of_models_that_there_are(script):
    spec = load_spec(ROOT / "examples" / "dual_paper.yaml")
    assert [model.title for model in spec.models] == list(script[2].CLEAN)
    assert not spec.carry
    for model in spec.models:
        assert registry().find("models", model.reference)
        for defense in model.defenses:
            registry().create("defenses", defense.kind, defense.params)


def test_every_run_is_a_valid_spec_with_attacks_that_there_are(script):
    spec = read_mapping(script[0].SPEC)
    made = list(script[0].pieces(spec, COUNTS, 2800))
    assert len({piece.folder for piece in made}) == len(made)
    assert {piece.part for piece in made} == {"levels", "strong", "others", "optimisers", "population", "minimal"}
    assert [piece.model for piece in made if piece.part == "levels"] == list(script[2].CLEAN)
    for piece in made:
        (model,) = (model for model in spec["models"] if model["name"] == piece.model)
        run = parse(RunSpec, {**spec, "models": [model], "threats": piece.threats})
        for threat in run.threats:
            for attack in () if isinstance(threat.battery, str) else threat.battery:
                assert threat.norm in registry().create("attacks", attack.kind, attack.params).norms


def test_the_papers_tables_are_whole(script):
    published = script[2]
    for rows in published.DUAL.values():
        assert rows.keys() == published.CLEAN.keys()
    for attack in published.ATTACKS.values():
        assert attack.keys() == published.AREAS.keys()


def test_blocks_are_filled_and_what_is_not_measured_stays(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- measured: dual -->\nold\n<!-- end -->\nb\n<!-- measured: areas -->\nkept\n<!-- end -->\n")
    script[1].fill(page, {"dual": "\n| new |\n"})
    text = page.read_text()
    assert "old" not in text
    assert "| new |" in text
    assert "kept" in text
    assert text.startswith("a\n")
    script[1].fill(page, {"dual": "\n| newer |\n"})
    assert "| new |" not in page.read_text()


def test_the_page_has_a_block_for_every_table(script):
    page = (ROOT / "docs" / "reproductions" / "dual.md").read_text(encoding="utf-8")
    blocks = {match[2] for match in script[1].BLOCK.finditer(page)}
    assert blocks == {
        "how", "findings", "dual", "strong", "optimisers", "population", "attacks", "areas", "classes", "transfer",
        "agreement", "curves",
    }  # fmt: skip
