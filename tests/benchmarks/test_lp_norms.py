"""The reproduction of the Lp-norm papers: its runs are valid specs, and its page is filled in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charpy.plugins import registry
from charpy.specs import RunSpec, parse

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import lp_norms
    import lp_norms_page
    import reproduction

    return lp_norms, lp_norms_page, reproduction


def test_every_run_is_a_valid_contest_of_attacks_that_there_are(script):
    made = dict(script[0].specs(None))
    assert {folder.partition("/")[0] for folder in made} == {"jsma", "l2", "linf"}
    for spec in made.values():
        run = parse(RunSpec, spec)
        assert run.contest
        for threat in run.threats:
            for attack in threat.battery:
                assert threat.norm in registry().create("attacks", attack.kind, attack.params).norms
    assert made["jsma/mnist-robust"]["threats"][0]["levels"] == [117], "15 % of 784"
    assert made["l2/cifar10-resnet-at"]["threats"][0]["levels"] == [1530], "6 in image values"


def test_every_command_names_what_there_is(script):
    commands = [*script[0].COMMANDS.values(), script[0].of_witnesses(Path("out"))]
    kinds = {entry.kind for entry in registry().entries("metrics")}
    for last, arguments in commands:
        assert last == f"{arguments[0]}.json"
        assert set(arguments[arguments.index("--metrics") + 1].split(",")) <= kinds


def test_the_page_has_a_block_for_every_table(script):
    page = (ROOT / "docs" / "reproductions" / "lp-norms.md").read_text(encoding="utf-8")
    blocks = {match[2] for match in script[2].BLOCK.finditer(page)}
    assert blocks == {"how", "jsma", "pairs", "far", "conditions", "witnesses", "heat", "eps"}
    assert set(script[1].blocks(Path("nowhere"), [])) == {"how"}, "what was not run leaves its block as it is"


def test_a_spread_is_the_mean_and_the_sample_standard_deviation(script):
    assert script[1]._spread(np.array([1.0, 2.0, 4.0])) == "2.33 +- 1.53"
    assert script[1]._spread(np.array([1.0])) == "-"


def test_the_heat_map_marks_a_class_that_is_nearer_to_another(script, tmp_path):
    cells = [("a", "a", 2.0), ("a", "b", 1.5), ("b", "b", 1.0)]
    document = {
        "classes": [{"name": "a"}, {"name": "b"}],
        "metrics": [{"kind": "l2", "cells": [{"first": x, "second": y, "mean": z} for x, y, z in cells]}],
    }
    (tmp_path / "distances.json").write_text(script[1].json.dumps(document))
    text = "\n".join(script[1]._heat(tmp_path))
    assert "| a | 2.00 | **1.50** |" in text
    assert "| b | 1.50 | 1.00 |" in text
    assert "a (2.00 among themselves) to b (1.50)." in text
