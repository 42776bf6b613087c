"""The table of defences names every defence, with networks and attackers that there are."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from charpy.interfaces.attack import Attack
from charpy.interfaces.defense import Detector
from charpy.plugins import registry
from charpy.threat import Access, Norm
from charpy_models.recipes import RECIPES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("defenses")


def test_every_defence_has_a_row(table):
    kinds = {entry.kind for entry in registry().entries("defenses") if entry.package == "charpy"}
    wanted = {kind for kind in kinds if not issubclass(registry().load("defenses", kind), Detector)}
    before = {kind for row in table.ROWS for kind, _ in row.defenses}
    trained = {spec.kind for row in table.ROWS for spec in RECIPES[row.model].defenses}
    assert before | trained == wanted


def test_a_network_for_a_defence_was_trained_with_it(table):
    for row in table.ROWS:
        of_recipe = {spec.kind: spec.params for spec in RECIPES[row.model].defenses}
        for kind, params in row.defenses:
            shared = of_recipe.get(kind, {}).keys() & params.keys() - {"draws"}
            assert all(of_recipe[kind][name] == params[name] for name in shared), row.name


def test_each_run_has_its_attackers(table):
    for row in table.ROWS:
        spec = table.spec_of(row, 5, 100, 0)
        wanted = ["adaptive", "black-box"] if row.no_static else ["static", "adaptive", "black-box"]
        assert [str(model.attackers[0]) for model in spec.models] == wanted
        assert [threat.norm for threat in spec.threats] == [Norm.L0, Norm.LINF]
    assert all(row.no_static for row in table.ROWS if not row.defenses), "nothing could be left out"


@pytest.mark.parametrize("norm", ["l0", "linf"])
def test_a_black_box_attacker_keeps_an_attack_and_the_adaptive_one_has_it_too(table, norm):
    steps = table.battery(norm, 100)
    attacks: list[type[Attack]] = [registry().load("attacks", step["kind"]) for step in steps]
    assert [attack.access for attack in attacks].count(Access.GRADIENTS) == len(attacks) - 1
    assert attacks[-1].access < Access.GRADIENTS
