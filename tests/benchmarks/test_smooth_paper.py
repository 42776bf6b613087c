"""The reproduction of the smooth paper: its runs are valid specs, and its page is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from charpy.analysis.document import CharacteristicPart, Share
from charpy.plugins import registry
from charpy.specfile import load_spec, read_mapping
from charpy.specs import RunSpec, parse

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reproduction
    import smooth_page
    import smooth_paper

    return smooth_paper, smooth_page, reproduction


def test_the_example_is_the_papers_contest(script):
    spec = load_spec(ROOT / "examples" / "smooth_paper.yaml")
    assert spec.contest
    assert spec.data.samples == 1000
    assert [model.title for model in spec.models] == [script[0].PLAIN, script[0].TRAINED]
    for model in spec.models:
        assert registry().find("models", model.reference)
    names = {attack.name for threat in spec.threats for attack in threat.battery}
    assert names >= script[1].PUBLISHED["C4"].keys()


def test_every_run_is_a_valid_spec_with_attacks_that_there_are(script, tmp_path):
    spec = read_mapping(script[0].SPEC)
    made = list(script[0].pieces(spec, 1000, 100, tmp_path))
    assert len({piece.folder for piece in made}) == len(made) == 10
    for piece in made:
        run = parse(RunSpec, {**spec, **piece.changes, "models": [piece.model], "threats": piece.threats})
        for threat in run.threats:
            names = [attack.name for attack in threat.battery]
            assert len(set(names)) == len(names)
            for attack in threat.battery:
                assert threat.norm in registry().create("attacks", attack.kind, attack.params).norms


def test_the_page_has_a_block_for_every_table(script):
    page = (ROOT / "docs" / "reproductions" / "smooth.md").read_text(encoding="utf-8")
    blocks = {match[2] for match in script[2].BLOCK.finditer(page)}
    assert blocks == {"how", "attacks", "curves", "descents", "graphs", "grid", "transfer"}
    assert script[1].blocks({("attacks", "C4"): ROOT / "nowhere.json"}).keys() == blocks


def test_a_characteristic_is_read_between_its_steps(script):
    part = CharacteristicPart(
        norm="l2", step=0, name="a", kind="a", success=Share(count=2, total=4, value=0.5, low=0.1, high=0.9), invalid=0,
        distance="l2", mean=382.5, largest=510.0, curve=((255.0, 0.25), (510.0, 0.5)),
    )  # fmt: skip
    within = script[1]._within
    assert [within(part, size) for size in (254.0, 255.0, 400.0, 510.0, 9999.0)] == [0.0, 0.25, 0.25, 0.5, 0.5]
    assert script[1]._row(part, (1.0, 2.0)) == ["a", "0.500 [0.100..0.900]", "*1.00*", "1.50", "*2.00*", "2.00"]
