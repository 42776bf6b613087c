"""A whole study: what was measured against the metrics by hand, the best of thresholds, pages, schema."""

from __future__ import annotations

import csv
import importlib.util
import io
import itertools
import json
import math
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from charpy.analysis.perception.labels import labels_of
from charpy.analysis.perception.perceive import pairs_csv, perceive
from charpy.errors import CharpyError, DataError
from charpy.interfaces.dataset import Samples
from charpy.interfaces.metric import Direction, Metric
from charpy.perception import measure
from charpy.perception.groups import Look, Originals, PairGroup
from charpy.perception.made import Limits, look_alikes, mixtures
from charpy.perception.measure import chosen_metrics, closest_of_different_classes, measured
from charpy.plugins import registry
from charpy.reports.json_report import json_bytes, perception_schema
from charpy.reports.perceive_html import render_page
from charpy.reports.perceive_terminal import perception_tables
from charpy.threat import Grid

COMMITTED = Path(__file__).parents[3] / "docs" / "schema" / "perception.schema.json"
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture(scope="module")
def pages():
    """What the tests of the report check of every page."""
    name = "charpy_tests_pages"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "reports" / "test_html.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Level(Metric):
    """The mean of the changed image; not a distance at all, which makes it easy to say what comes out."""

    unit = "1"

    def __call__(self, images, perturbed):
        values = perturbed.flatten(1).mean(1)
        return torch.where(values > 0.95, torch.nan, torch.where(values > 0.85, torch.inf, values))


class Likeness(Level):
    direction = Direction.SIMILARITY

    def __call__(self, images, perturbed):
        return -super().__call__(images, perturbed)


class Flat(Level):
    def __call__(self, images, perturbed):
        return (perturbed - images).flatten(1).norm(dim=1)


def group(name, levels, look=None):
    levels = torch.tensor(levels)

    def read(rows):
        changed = levels[rows, None, None, None].expand(-1, 1, 6, 6)
        return torch.zeros_like(changed), changed

    return PairGroup(
        name, f"made {name}", tuple(f"o{i}" for i in range(len(levels))), (name,) * len(levels), read, look
    )


def plain(count=5, name="plain", names=("cat", "dog")):
    images = torch.linspace(0, 1, count)[:, None, None, None].expand(-1, 1, 6, 6)
    ids = tuple(f"o{number}" for number in range(count))
    return Originals(name, images, torch.arange(count) % 2, ids, names, Grid.NONE)


GROUPS = [
    group("near", [0.1, 0.2, 0.3, 0.9, 1.0], Look.ALIKE),
    group("far", [0.25, 0.6, 0.7, 0.8, 0.9], Look.DIFFERENT),
    group("witness", [0.2, 0.5]),
]


@pytest.fixture(scope="module")
def study():
    metrics = {"level": Level(), "likeness": Likeness()}
    return perceive(plain(), GROUPS, metrics, labels_of(GROUPS), leads=("level", "likeness"), left_out={"vif": "small"})


def test_the_figures_by_hand(study):
    level, likeness = study.document.metrics
    assert study.document.alike == study.document.different == 5
    assert study.document.unlabelled == 2
    assert level.unmeasured == 1  # 1.0 gives NaN
    near, far = [0.1, 0.2, 0.3, math.inf], [0.25, 0.6, 0.7, 0.8, math.inf]
    exact = np.mean([(a < d) + 0.5 * (a == d) for a, d in itertools.product(near, far)])
    assert level.area.value == likeness.area.value == pytest.approx(exact)
    best = next(at for at in level.thresholds if at.role == "best")
    assert best.value == pytest.approx(0.3)
    assert (best.left_out.count, best.left_out.total, best.let_in.count, best.let_in.total) == (1, 4, 1, 5)
    assert {name: (share.count, share.total) for name, share in best.within.items()} == {
        "near": (3, 4), "far": (1, 5), "witness": (1, 2),
    }  # fmt: skip
    reach = next(at for at in level.thresholds if at.role == "reach")
    assert reach.value is None  # infinity: the farthest of four is needed for 95 %
    assert (reach.left_out.count, reach.let_in.count) == (0, 5)
    same = next(at for at in likeness.thresholds if at.role == "best")
    assert same.title == "≥ -0.3"
    assert same.value == pytest.approx(-0.3)
    assert (same.left_out, same.let_in) == (best.left_out, best.let_in)
    assert level.curve.left_out[0] == 4
    assert level.curve.let_in[-1] == 5
    assert [(point.left_out.count, point.let_in.count) for point in level.rates][:3] == [(3, 0), (2, 0), (2, 1)]


def test_the_spread_of_a_group(study):
    near = study.document.groups[0].values["level"]
    assert near.model_dump() == {
        "least": pytest.approx(0.1), "low": pytest.approx(0.1), "median": pytest.approx(0.3),
        "high": None, "most": None, "unmeasured": 1,
    }  # fmt: skip


def test_the_pairs_that_are_shown(study):
    shown = [(item.part.section, item.part.metric, item.part.pair) for item in study.shown]
    assert ("alike", "level", "o3|near") in shown
    assert ("different", "level", "o0|far") in shown
    order = [pair for section, metric, pair in shown if (section, metric) == ("alike", "level")]
    assert order == ["o3|near", "o2|near", "o1|near", "o0|near"]  # never the NaN of o4
    for item in study.shown:
        if item.part.section != "classes":
            levels = {group.name: group.read(torch.arange(len(group)))[1] for group in GROUPS}
            row = int(item.part.pair[1])
            assert (item.changed == levels[item.part.group][row].numpy()).all()
    closest = next(item for item in study.shown if item.part.section == "classes")
    assert {closest.part.original, closest.part.other} == {"cat", "dog"}


def test_the_verdict(study):
    assert "no condition on any of 2 metrics is both necessary and sufficient" in study.document.verdict
    assert "By the proxy" in study.document.verdict
    mixed = [group("near", [0.1, 0.5], Look.ALIKE), group("far", [0.3, 0.6], Look.DIFFERENT)]
    single = perceive(plain(), mixed, {"level": Level()}, labels_of(mixed), leads=("level",))
    assert "no condition on level is both necessary and sufficient" in single.document.verdict
    apart = [group("near", [0.1, 0.2], Look.ALIKE), group("far", [0.5, 0.6], Look.DIFFERENT)]
    clear = perceive(plain(), apart, {"level": Level()}, labels_of(apart), leads=("level",))
    counts = "0 of 2 left out, 0 of 2 let in"
    assert f"a condition on level ({counts}) is both necessary and sufficient" in clear.document.verdict
    mixed = [group("near", [0.1, 0.6], Look.ALIKE), group("far", [0.5, 0.4], Look.DIFFERENT)]
    one = perceive(plain(), mixed, {"level": Level()}, labels_of(mixed), leads=("level",))
    assert "no condition on level is both" in one.document.verdict
    alone = perceive(plain(), apart[:1], {"level": Level()}, labels_of(apart[:1]), leads=("level",))
    assert "no condition can be tested" in alone.document.verdict
    assert alone.document.metrics[0].area is None
    assert [at.role for at in alone.document.metrics[0].thresholds] == ["reach"]


def test_every_pair_is_in_the_csv(study):
    rows = list(csv.DictReader(io.StringIO(pairs_csv(study.measured).decode())))
    assert [row["pair"] for row in rows] == [pair for part in GROUPS for pair in part.pairs]
    assert [row["label"] for row in rows] == ["alike"] * 5 + ["different"] * 5 + [""] * 2
    np.testing.assert_allclose([float(row["level"]) for row in rows], study.measured.values["level"], rtol=1e-6)


def test_the_page_is_offline_inert_and_the_same_each_time(study, pages):
    text = render_page(study, ("level", "likeness")).decode()
    page = pages.check(text)
    assert render_page(study, ("level", "likeness")) == text.encode()
    assert study.document.proxy in page.text
    assert "vif is left out: small" in page.text
    assert "no value for 1 pair" in page.text
    assert text.count('<svg class="chart"') == 4  # ROC of what is no norm, a chart a metric, the scatter


def test_names_are_inert(pages):
    groups = [group(HOSTILE, [0.1, 0.4], Look.ALIKE), group("far", [0.3, 0.6], Look.DIFFERENT)]
    originals = plain(name=HOSTILE, names=(HOSTILE, "dog"))
    study = perceive(
        originals, groups, {"level": Level()}, labels_of(groups), leads=("level",), runs=(HOSTILE,), notes=(HOSTILE,)
    )
    text = render_page(study, ("level",)).decode()
    pages.check(text)
    assert "<script" not in text
    assert "\u202e" not in text
    json.loads(json_bytes(study.document))
    assert list(perception_tables(study.document))


def test_the_published_schema_is_the_one_of_the_code_and_takes_a_study(study):
    hint = "rewrite it: python -m charpy.reports.json_report perception > docs/schema/perception.schema.json"
    schema = perception_schema()
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == schema, hint
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(json_bytes(study.document))
    validator.validate(document)
    del document["proxy"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)


@pytest.fixture(scope="module")
def originals():
    samples = registry().create("datasets", "digits").read(range(12))
    return Originals.of("digits", samples, tuple("0123456789"), Grid.EIGHT_BIT)


def test_values_are_those_of_the_metrics_in_any_batch(originals, monkeypatch):
    groups = look_alikes(originals, Limits()) + mixtures(originals, Limits())
    metrics, _ = chosen_metrics(["l2", "ssim", "psnr", "linf"], registry(), groups[0])
    values = measured(groups, metrics)
    pairs = [group.read(torch.arange(len(group))) for group in groups]
    first, changed = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    gap = (changed - first).flatten(1)
    np.testing.assert_allclose(values["l2"], gap.norm(dim=1).numpy(), rtol=1e-5)
    np.testing.assert_allclose(values["linf"], gap.abs().amax(1).numpy(), rtol=1e-5)
    np.testing.assert_allclose(values["psnr"], -10 * np.log10((gap**2).mean(1).numpy()), rtol=1e-5)
    monkeypatch.setattr(measure, "BATCH", 100)
    for kind, again in measured(groups, metrics).items():
        np.testing.assert_allclose(again, values[kind], rtol=1e-6)


def test_fewer_of_large_images_are_compared():
    def count(*shape):
        return measure.compared(plain()._replace(images=torch.zeros(1, *shape).expand(500, -1, -1, -1)))

    assert count(1, 28, 28) == count(3, 32, 32) == 100
    large = count(3, 299, 299)
    assert large * (large - 1) // 2 * 3 * 299 * 299 <= measure.COMPARED < large * (large + 1) // 2 * 3 * 299 * 299
    assert measure.compared(plain(3)) == 3


@pytest.mark.parametrize("kind", ["ssim", "l2"])
def test_the_closest_of_different_classes_by_brute_force(originals, kind):
    metrics, _ = chosen_metrics([kind], registry(), look_alikes(originals, Limits())[0])
    metric = metrics[kind]
    found = closest_of_different_classes(originals, metric)
    values = {}
    for one, other in itertools.combinations(range(12), 2):
        if originals.labels[one] != originals.labels[other]:
            values[one, other] = float(metric(originals.images[[one]], originals.images[[other]]))
    expected = (max if kind == "ssim" else min)(values, key=values.get)
    assert (found.first, found.second) == expected
    assert found.value == pytest.approx(values[expected], rel=1e-6)
    same = originals._replace(labels=torch.zeros(12).long())
    assert closest_of_different_classes(same, metric) is None
    assert closest_of_different_classes(originals._replace(images=originals.images[:1]), metric) is None


def test_without_a_value_no_two_classes_are_the_closest():
    bright = plain()._replace(images=torch.ones(5, 1, 6, 6))
    assert closest_of_different_classes(bright, Level()) is None
    pairs = GROUPS[:2]
    study = perceive(bright, pairs, {"level": Level(), "l2": Flat()}, labels_of(pairs), leads=("level", "l2"))
    assert [item.part.metric for item in study.shown if item.part.section == "classes"] == ["l2"]


def test_metrics_that_cannot_measure_are_left_out_or_refused(originals):
    group = look_alikes(originals, Limits())[0]
    metrics, left_out = chosen_metrics(None, registry(), group)
    assert list(metrics)[:6] == list(measure.FIRST)
    assert set(left_out) == {"alignment", "magnification", "lpips", "ms_ssim", "vif", "embedding"}
    assert "8 x 8" in left_out["vif"]
    named, nothing = chosen_metrics(["magnification", "l2", "l2"], registry(), group)
    assert (list(named), nothing) == (["magnification", "l2"], {})
    with pytest.raises(DataError, match="too small for vif"):
        chosen_metrics(["l2", "vif"], registry(), group)
    with pytest.raises(CharpyError, match="did you mean"):
        chosen_metrics(["l3"], registry(), group)


def test_samples_of_a_dataset_are_put_on_their_grid():
    samples = Samples(torch.tensor([0.1234, 1.0]).view(2, 1, 1, 1), torch.zeros(2).long(), ("a", "b"))
    assert float(Originals.of("x", samples, (), Grid.EIGHT_BIT).images[0] * 255) == pytest.approx(31)
    assert float(Originals.of("x", samples, (), Grid.NONE).images[0]) == pytest.approx(0.1234)
