"""Whole runs under L1 and L2, and attacks that find their own radius, on a linear model whose distances are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import charpy
from charpy.analysis.document import comparable
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.checks import largest_level
from charpy.errors import SpecError
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack, Family
from charpy.plugins import Registry
from charpy.reports.html import HtmlReport
from charpy.reports.json_report import JsonReport
from charpy.reports.terminal import plain_table
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Norm

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.randint(80, 176, (20, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
VALUES = (IMAGES / 255 * WEIGHT).flatten(1).sum(1)
MIDDLE = float(VALUES.sort().values[9:11].mean())
LABELS = (VALUES > MIDDLE).long()
L2_OPTIMUM = (255 * (VALUES - MIDDLE).abs() / WEIGHT.norm()).double().numpy()
"""The distance of each image from the boundary in 1/255 steps; the images are grey, so the box is far away."""

LAST = 1396
"""The diameter of the box of 30 values: 255 * sqrt(30) = 1396.7 steps."""


def away(task, distance: float) -> torch.Tensor:
    """`task.images` moved across the boundary by at most `distance` (image values, L2), on the grid."""
    side = (1 - 2 * task.labels.float()).view(-1, 1, 1, 1)
    return task.images + (side * WEIGHT / WEIGHT.norm() * distance * 255).trunc() / 255


class Straight(Attack):
    """Moves straight towards the boundary by the whole radius: succeeds from the optimum plus the rounding on."""

    norms, access = frozenset({Norm.L1, Norm.L2}), Access.LABELS

    def run(self, task):
        scale = 1.0 if task.threat.norm is Norm.L2 else float(WEIGHT.norm() / WEIGHT.abs().sum())
        task.oracle.labels(away(task, task.threat.radius * scale), torch.arange(len(task.images)))


class Ladder(Attack):
    """Finds its own radius: looks at every tenth step from the largest down, one row for each."""

    norms, access, family = frozenset({Norm.L2}), Access.LABELS, Family.TARGET_OPTIMALITY

    def run(self, task):
        for step in range(200, 0, -10):
            task.oracle.labels(away(task, step / 255), torch.arange(len(task.images)))


class Short(Ladder):
    """The same with two rungs; what it leaves standing is the other attacks' business."""

    family = Family.TARGET_SUCCESS

    def run(self, task):
        for step in (30, 20):
            task.oracle.labels(away(task, step / 255), torch.arange(len(task.images)))


@pytest.fixture(autouse=True)
def _quick_measurement(monkeypatch):
    """How long the query engine may measure: speed is not what these tests are about."""
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)


@pytest.fixture
def computed():
    """Every unit that was computed in this test, in order: (attack, th, samples)."""
    return []


@pytest.fixture
def registry(computed):
    class Extra:
        @hookimpl
        def charpy_attacks(self):
            return {"straight": Straight, "ladder": Ladder, "short": Short}

        @hookimpl
        def charpy_outcomes(self, unit, outcomes):
            computed.append((unit["attack"], unit["th"], sum(outcomes.values())))

    registry = Registry()
    registry.add(Extra(), "extra")
    return registry


def run(path: Path, registry: Registry, *kinds: str, norm: str = "l2", listen=None, **threat) -> Path:
    battery = [{"kind": kind} for kind in kinds]
    fields = {
        "data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "shard": 8,
        "threats": [{"norm": norm, "battery": battery, "queries": 50, **threat}],
    }  # fmt: skip
    data = ArrayDataset(IMAGES.numpy(), LABELS.numpy())
    subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MIDDLE))
    target = path / "run.charpy" if path.is_dir() else path
    evaluate(parse(RunSpec, fields), target, registry=registry, subjects=[subject], dataset=data, listen=listen)
    return target


def assessment(path: Path):
    with RunFile.open(path) as file:
        return RunSummary.of(file).assessments[0]


def nearest(path: Path) -> dict[int, float]:
    with RunFile.open(path) as file:
        found: dict[int, float] = {}
        for sample, _, distance in file.witness_distances(0, "l2"):
            found[sample] = min(distance, found.get(sample, math.inf))
    return found


def test_an_l2_run_breaks_what_is_within_the_radius_and_nothing_else(tmp_path, registry):
    levels = [8, 16, 32, 64]
    path = run(tmp_path, registry, "straight", levels=levels)
    parts = assessment(path).threats
    assert [part.th for part in parts] == levels
    rounding = math.sqrt(30)  # trunc() loses less than one step in each of 30 values
    for part in parts:
        assert (part.th - rounding >= L2_OPTIMUM).sum() <= part.broken <= (part.th >= L2_OPTIMUM).sum()
        assert part.broken + part.held == 20
    assert 0 < parts[0].broken < parts[-1].broken
    for sample, distance in nearest(path).items():
        assert distance >= L2_OPTIMUM[sample] - 1e-3


@pytest.mark.parametrize(("norm", "levels"), [("l1", [510, 1530, 3060]), ("l2", [32, 64, 128, 255])])
def test_levels_that_are_not_given_are_stored_resolved(tmp_path, registry, norm, levels):
    path = run(tmp_path, registry, "straight", norm=norm)
    with RunFile.open(path) as file:
        assert file.spec["threats"][0]["levels"] == levels
        assert {unit["th"] for unit in file.units(0)} <= set(levels)
    run(path, registry, "straight", norm=norm, levels=levels)  # the same run, written out: nothing is refused


@pytest.mark.parametrize(("norm", "th", "last"), [("l2", LAST + 1, LAST), ("l1", 7651, 7650)])
def test_a_level_beyond_the_image_box_is_refused_by_name_before_anything_is_written(tmp_path, registry, norm, th, last):
    with pytest.raises(SpecError, match=f"the {norm} radius is outside the image") as caught:
        run(tmp_path, registry, "straight", norm=norm, levels=[5, th])
    assert f"the largest level of {norm} here is {last}" in str(caught.value)
    assert not list(tmp_path.iterdir())
    run(tmp_path, registry, "straight", norm=norm, levels=[5, last])


def test_an_attack_that_finds_its_own_radius_runs_once_and_fills_every_level(tmp_path, registry, computed):
    path = run(tmp_path, registry, "ladder", levels="minimal")
    assert computed == [("ladder", LAST, 8), ("ladder", LAST, 8), ("ladder", LAST, 4)]
    with RunFile.open(path) as file:
        assert {(unit["th"], unit["round"]) for unit in file.units(0)} == {(LAST, 0)}
    part = assessment(path).minimal[0]
    expected = [math.ceil(distance - 1e-6) for distance in nearest(path).values()]
    assert part.broken == len(expected) == 20
    assert part.counts == {th: expected.count(th) for th in sorted(set(expected))}
    assert part.median == sorted(expected)[9]
    excess = np.array([distance for _, distance in sorted(nearest(path).items())]) - L2_OPTIMUM
    assert -1e-3 <= excess.min() <= excess.max() <= 10 + math.sqrt(30), "a rung, and the rounding"
    threats = {t.th: t.broken for t in assessment(path).threats}
    assert threats == {th: sum(level <= th for level in expected) for th in (32, 64, 128, 255)}


def test_the_other_attacks_search_below_what_it_found(tmp_path, registry):
    alone = nearest(run(tmp_path / "a.charpy", registry, "ladder", levels="minimal"))
    path = run(tmp_path / "b.charpy", registry, "ladder", "straight", levels="minimal")
    both = nearest(path)
    assert all(both[sample] <= alone[sample] + 1e-9 for sample in range(20))
    assert sum(both[sample] < alone[sample] for sample in range(20)) >= 10
    with RunFile.open(path) as file:
        units = file.units(0)
        probes = {(key.th, row.sample) for key, name, row in file.results(0) if name == "straight"}
    assert {unit["th"] for unit in units if unit["attack"] == "ladder"} == {LAST}
    assert all(th < alone[sample] for th, sample in probes), "no look above what is known"


def test_a_sample_that_it_does_not_break_is_searched_from_the_first_level_on(tmp_path, registry):
    """That it failed at the largest level says nothing of what the others can do."""
    alone = nearest(run(tmp_path / "a.charpy", registry, "short", levels="minimal"))
    left = {sample for sample in range(20) if sample not in alone}
    assert left, "otherwise this shows nothing"
    path = run(tmp_path / "b.charpy", registry, "short", "straight", levels="minimal")
    assert set(nearest(path)) == set(range(20))
    with RunFile.open(path) as file:
        first = {row.sample for key, name, row in file.results(0) if name == "straight" and key.th == 1}
    assert first >= left


def test_two_of_them_at_fixed_levels_each_get_all_that_some_level_lacks(tmp_path, registry, computed):
    levels = [8, 30, 250]
    run(tmp_path, registry, "short", "ladder", levels=levels)
    assert {th for _, th, _ in computed} == {250}
    for kind in ("short", "ladder"):
        assert sum(n for attack, _, n in computed if attack == kind) == 20, "broken at 30 or 250 is not broken at 8"


def test_independent_levels_run_it_at_each(tmp_path, registry, computed):
    fields = {
        "data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "carry": False,
        "threats": [{"norm": "l2", "battery": [{"kind": "ladder"}], "queries": 50, "levels": [40, 80]}],
    }  # fmt: skip
    subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MIDDLE))
    data = ArrayDataset(IMAGES.numpy(), LABELS.numpy())
    evaluate(parse(RunSpec, fields), tmp_path / "a.charpy", registry=registry, subjects=[subject], dataset=data)
    assert computed == [("ladder", 40, 20), ("ladder", 80, 20)]


@pytest.mark.parametrize("levels", ["minimal", [8, 30, 250]])
def test_an_interrupted_run_goes_on_without_asking_again_and_ends_the_same(tmp_path, registry, computed, levels):
    kinds = ("short", "straight", "ladder")
    whole = run(tmp_path / "whole.charpy", registry, *kinds, levels=levels)
    once = list(computed)
    computed.clear()

    class StopError(Exception):
        pass

    def after(units):
        def listen(progress):
            if progress.done >= units:
                raise StopError

        return listen

    broken = tmp_path / "broken.charpy"
    for units in (1, 3, 4, 6, 7, 9):
        with pytest.raises(StopError):
            run(broken, registry, *kinds, levels=levels, listen=after(units))
    run(broken, registry, *kinds, levels=levels)
    assert computed == once, "each unit was computed in exactly one of the seven sessions"
    with RunFile.open(whole) as a, RunFile.open(broken) as b:
        assert sorted(a.results(0), key=repr) == sorted(b.results(0), key=repr)
        assert list(a.witnesses(0)) == list(b.witnesses(0))
        documents = [comparable(json.loads(JsonReport().render(RunSummary.of(file)))) for file in (a, b)]
    assert documents[0] == documents[1]


def test_the_reports_of_a_search_under_l1_and_l2_do_not_grow_with_the_range(tmp_path, registry):
    path = run(tmp_path, registry, "straight", norm="l1", levels="minimal")
    part = assessment(path)
    assert part.auc[0].last == largest_level(Norm.L1, (1, 6, 5)) == 7650
    assert part.auc[0].whole_range
    assert 0 < part.auc[0].normalised < 1
    with RunFile.open(path) as file:
        page = HtmlReport().render(RunSummary.of(file)).decode("utf-8")
    assert len(page) < 300_000
    assert "1/255 steps of L1 distance" in page
    assert "L1 (1/255)" in plain_table(part)


def test_assess_takes_every_norm_and_levels_by_norm(monkeypatch, registry):
    monkeypatch.setattr("charpy.evaluator.installed", lambda: registry)
    model, options = LinearModel(WEIGHT, -MIDDLE), {"norms": ("l2", "l1"), "battery": "straight", "queries": 60}
    result = charpy.assess(model, IMAGES.numpy(), LABELS.numpy(), levels={"l2": (16, 8)}, **options)
    found = [(threat.norm, threat.th) for threat in result.assessment.threats]
    assert found == [("l2", 8), ("l2", 16), ("l1", 510), ("l1", 1530), ("l1", 3060)]
    assert "L2 (1/255)" in str(result)
    assert "an L2 distance of at most 8/255" in result.assessment.verdict
    both = charpy.assess(model, IMAGES.numpy(), LABELS.numpy(), levels=(64,), **options)
    assert [(threat.norm, threat.th) for threat in both.assessment.threats] == [("l2", 64), ("l1", 64)]


def test_assess_refuses_levels_that_no_norm_has():
    options = {"norms": ("l0", "linf", "l2"), "queries": 60}
    with pytest.raises(SpecError, match="levels of a norm that is not assessed"):
        charpy.assess(LinearModel(WEIGHT, -MIDDLE), IMAGES.numpy(), LABELS.numpy(), levels={"l1": [510]}, **options)
    with pytest.raises(SpecError, match="largest level of l2 here is 1396"):
        charpy.assess(LinearModel(WEIGHT, -MIDDLE), IMAGES.numpy(), LABELS.numpy(), levels={"l2": [5000]}, **options)
