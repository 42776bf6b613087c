"""Runs in which every attack faces every sample, and the operating characteristics that follow (Zhang et al., 5.1)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charpy.analysis.characteristic import STEPS
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.errors import SpecError
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack, Family
from charpy.plugins import Registry
from charpy.reports.html import HtmlReport
from charpy.reports.terminal import contest_table
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Norm

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = 0.3 + 0.4 * torch.rand(24, 1, 5, 4, generator=GENERATOR)
WEIGHT = torch.randn(1, 5, 4, generator=GENERATOR)
VALUES = (IMAGES * WEIGHT).flatten(1).sum(1)
MIDDLE = float(VALUES.sort().values[11:13].mean())
LABELS = (VALUES > MIDDLE).long()
LABELS[3] = 1 - LABELS[3]  # a clean error: no attack sees it
RIGHT = np.arange(24) != 3
OPTIMUM = ((VALUES - MIDDLE).abs() / WEIGHT.norm()).double().numpy()
"""The L2 distance of each image from the boundary, in image values."""


def moved(task, length: float) -> torch.Tensor:
    side = (1 - 2 * task.labels.float()).view(-1, 1, 1, 1)
    return task.images + side * WEIGHT / WEIGHT.norm() * length


class Sure(Attack):
    """Moves by nine tenths of the radius, straight across the boundary."""

    norms, access = frozenset({Norm.L2}), Access.LABELS
    share = 0.9

    def run(self, task):
        task.oracle.labels(moved(task, self.share * task.threat.radius), torch.arange(len(task.images)))


class Fickle(Sure):
    """The same, but at the largest radius by a fifth of it: a larger radius may give a nearer image."""

    def run(self, task):
        share = 0.2 if task.threat.th > 200 else 0.9
        task.oracle.labels(moved(task, share * task.threat.radius), torch.arange(len(task.images)))


class Falls(Sure):
    """Fails for good at the two largest levels."""

    def run(self, task):
        if task.threat.th > 100:
            raise RuntimeError("out of order")
        super().run(task)


class Finder(Attack):
    """Finds its own radius, to a hundredth."""

    norms, access, family = frozenset({Norm.L2}), Access.LABELS, Family.TARGET_OPTIMALITY

    def run(self, task):
        for step in range(100, 0, -1):
            task.oracle.labels(moved(task, step / 100), torch.arange(len(task.images)))


class Climber(Finder):
    """The same, looking at gradients."""

    access = Access.GRADIENTS

    def run(self, task):
        for step in range(100, 0, -1):
            task.oracle.loss_and_gradient(moved(task, step / 100), torch.arange(len(task.images)))


LEVELS = [26, 51, 128, 255]


@pytest.fixture(autouse=True)
def _quick_measurement(monkeypatch):
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)


@pytest.fixture
def contest(tmp_path):
    """Runs the spec; gives what was computed as (attack, th, samples), and the run's path."""

    def go(*kinds: str, **changes):
        computed = []

        class Extra:
            @hookimpl
            def charpy_attacks(self):
                return {"sure": Sure, "fickle": Fickle, "finder": Finder, "falls": Falls, "climber": Climber}

            @hookimpl
            def charpy_outcomes(self, unit, outcomes):
                computed.append((unit["attack"], unit["th"], sum(outcomes.values())))

        registry = Registry()
        registry.add(Extra(), "extra")
        fields = {
            "data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "contest": True, "grid": "none",
            "threats": [{"norm": "l2", "levels": LEVELS, "battery": [{"kind": k} for k in kinds], "queries": 200}],
        }  # fmt: skip
        path = tmp_path / "run.charpy"
        subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MIDDLE))
        data = ArrayDataset(IMAGES.numpy(), LABELS.numpy())
        evaluate(parse(RunSpec, {**fields, **changes}), path, registry=registry, subjects=[subject], dataset=data)
        return computed, path

    return go


def assessment(path):
    with RunFile.open(path) as file:
        return RunSummary.of(file).assessments[0]


@pytest.mark.parametrize("carry", [True, False])
def test_every_attack_faces_every_sample_at_every_level(contest, carry):
    computed, path = contest("sure", "finder", "fickle", carry=carry)
    found = [255] if carry else LEVELS  # where levels are independent, one run says nothing of the others
    levels = {"sure": LEVELS, "finder": found, "fickle": LEVELS}
    assert computed == [(name, th, 23) for name, climbed in levels.items() for th in climbed]
    reach = [(RIGHT & (th / 255 >= OPTIMUM)).sum() for th in LEVELS]
    assert [part.broken for part in assessment(path).threats] == pytest.approx(reach, abs=1)
    assert assessment(path).status == "valid"


def test_an_attack_counts_by_its_best_run(contest):
    """P_suc, D-bar and P(D) by brute force from what each attack is defined to do."""
    _, path = contest("sure", "fickle", "finder")
    lengths = {
        "sure": [0.9 * th / 255 for th in LEVELS],
        "fickle": [0.9 * th / 255 for th in LEVELS[:-1]] + [0.2],
        "finder": [step / 100 for step in range(1, 101)],
    }
    parts = {part.name: part for part in assessment(path).characteristics}
    assert list(parts) == ["sure", "fickle", "finder"]
    for name, tried in lengths.items():
        best = [min((length for length in tried if length > size), default=math.inf) for size in OPTIMUM[RIGHT]]
        found = sorted(255 * length for length in best if length < math.inf)
        part = parts[name]
        assert (part.success.count, part.success.total, part.invalid) == (len(found), 23, 0)
        assert part.distance == "l2"
        assert part.mean == part.metrics["l2"] == pytest.approx(np.mean(found), rel=1e-5)
        assert part.largest == pytest.approx(found[-1], rel=1e-5)
        for size in np.linspace(1, 260, 50):
            at = max((share for distance, share in part.curve if distance <= size), default=0.0)
            assert at == pytest.approx(sum(distance <= size + 1e-4 for distance in found) / 23)
    assert parts["fickle"].mean < parts["sure"].mean


def test_what_an_attack_costs_is_its_own(contest):
    """The second of two equal attacks does not pay for the first; the levels are not added up."""
    _, path = contest("sure", "finder")
    assert {part.queries_to_success_median for part in assessment(path).threats if part.broken} == {1.0}


def test_without_the_l2_metric_the_norms_own_distance_is_taken(contest):
    _, path = contest("finder", metrics=[{"kind": "linf"}])
    (part,) = assessment(path).characteristics
    assert part.distance == "l2"
    assert part.mean == pytest.approx(255 * np.mean(np.ceil(100 * OPTIMUM[RIGHT]) / 100), rel=1e-4)


@pytest.mark.parametrize("scale", [None, 1, 255])
def test_the_distance_is_the_same_whatever_the_metrics_scale(contest, scale):
    _, path = contest("finder", metrics=[{"kind": "l2", "params": {} if scale is None else {"scale": scale}}])
    (part,) = assessment(path).characteristics
    assert part.mean == pytest.approx(255 * np.mean(np.ceil(100 * OPTIMUM[RIGHT]) / 100), rel=1e-4)


def test_a_sample_that_an_attack_could_not_be_run_on_has_not_held(contest):
    """Valid at two levels, where it failed, and out of order at the others: nothing is known of it."""
    _, path = contest("falls", "finder")
    falls, finder = assessment(path).characteristics
    within = int((RIGHT & (OPTIMUM < 0.9 * 51 / 255)).sum())
    assert (falls.success.count, falls.invalid) == (within, 23 - within)
    assert 0 < within < 23
    assert finder.invalid == 0
    table = contest_table(assessment(path))
    assert [str(cell) for cell in list(table.columns)[-1].cells] == [str(23 - within), "0"]


def test_an_attack_that_finds_its_own_radius_has_not_left_standing_what_it_broke_nearer(contest):
    """The next one breaks the same samples again at every level: gradients are not masked by that."""
    _, path = contest("climber", "sure")
    better = [part for part in assessment(path).indicators if part.kind == "black_box_better"]
    assert [part.value for part in better] == [0.0] * len(LEVELS)


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    from charpy.analysis.characteristic import _part

    unit = {"norm": "l2", "step": 0, "attack": "a", "kind": "a"}
    part = _part(unit, {i: (float(i + 1), {}) for i in range(5000)}, 10_000, 0, "l2")
    assert len(part.curve) == STEPS
    assert part.curve[0] == (1.0, 1e-4)
    assert part.curve[-1] == (5000.0, 0.5)
    assert all(share == pytest.approx(size / 10_000) for size, share in part.curve)
    equal = _part(unit, dict.fromkeys(range(4), (2.0, {"a": 3.0})), 8, 0, "l2")
    assert equal.curve == ((2.0, 0.5),)
    assert equal.metrics == {"a": 3.0}
    assert _part(unit, {}, 8, 2, "l2").mean is None


def test_a_contest_without_levels_is_refused(contest):
    with pytest.raises(SpecError, match="levels that are given"):
        contest("sure", threats=[{"norm": "l2", "levels": "minimal", "battery": [{"kind": "sure"}]}])


def test_the_reports_say_what_each_attack_does_alone(contest):
    _, path = contest("sure", "finder")
    with RunFile.open(path) as file:
        page = HtmlReport().render(RunSummary.of(file)).decode()
    assert "Each attack alone" in page
    assert "Share broken within a distortion. Line 1: 100" in page.replace("\u00a0", " ")
    assert "Each attack runs on all correctly classified images." in page
    table = contest_table(assessment(path))
    columns = [list(column.cells) for column in table.columns]
    assert [str(cell) for cell in columns[0]] == ["sure", "finder"]
    assert [str(cell) for cell in columns[2]] == ["23/23", "23/23"]


def test_an_ordinary_run_has_no_characteristics(contest):
    _, path = contest("sure", "finder", contest=False)
    assert assessment(path).characteristics == ()
    with RunFile.open(path) as file:
        assert "Each attack alone" not in HtmlReport().render(RunSummary.of(file)).decode()
