"""A threat without a ball: everything in the box counts, and the report sets it apart from the levels."""

from __future__ import annotations

import math

import pytest
import torch

from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack
from charpy.plugins import Registry
from charpy.reports.html import HtmlReport
from charpy.reports.terminal import plain_table
from charpy.runfile import RunFile
from charpy.specs import RunSpec, levels_under, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Norm

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.randint(0, 256, (24, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
MEDIAN = float((IMAGES / 255 * WEIGHT).flatten(1).sum(1).median())
LABELS = ((IMAGES / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long()
METRICS = [{"kind": "l2"}, {"kind": "ssim", "params": {"window": 3}}]


class Negative(Attack):
    """Shows the negative of each image: far away by every distance, and inside a threat without a ball."""

    norms, access = frozenset(Norm), Access.LABELS

    def run(self, task):
        task.oracle.labels(1 - task.images, torch.arange(len(task.images)))
        task.notes.update(asked=len(task.images), odd=math.nan)


def registry() -> Registry:
    class Extra:
        @hookimpl
        def charpy_attacks(self):
            return {"negative": Negative}

    registry = Registry()
    registry.add(Extra(), "extra")
    return registry


def summary(path, norms, **fields) -> RunSummary:
    threats = [{"norm": norm, "battery": [{"kind": "negative"}]} for norm in norms]
    base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": threats, "metrics": METRICS}
    subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MEDIAN))
    data = ArrayDataset(IMAGES.numpy(), LABELS.numpy())
    evaluate(
        parse(RunSpec, {**base, **fields}), path / "run.charpy", subjects=[subject], dataset=data, registry=registry()
    )
    return RunSummary.of(RunFile.open(path / "run.charpy"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return summary(tmp_path_factory.mktemp("both"), ["linf", "unrestricted"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return summary(tmp_path_factory.mktemp("alone"), ["unrestricted"])


def negatives_that_break() -> int:
    with torch.no_grad():
        model = LinearModel(WEIGHT, -MEDIAN)
        right = model.predict(IMAGES / 255).argmax(1) == LABELS
        return int((right & (model.predict(1 - IMAGES / 255).argmax(1) != LABELS)).sum())


def test_what_no_ball_contains_counts_without_a_ball_only(both):
    assessment = both.assessments[0]
    broken = {(threat.norm, threat.th): threat.broken for threat in assessment.threats}
    expected = negatives_that_break()
    assert expected > 5
    assert broken["unrestricted", 1] == expected
    assert {count for (norm, _), count in broken.items() if norm == "linf"} == {0}
    (part,) = (part for part in assessment.attacks if part.norm == "unrestricted")
    assert set(part.metrics) == {"l2", "ssim"}
    assert part.metrics["l2"] > 1
    assert part.metrics["ssim"] < 0
    assert part.notes == {"asked": part.attacked}, "a figure that is none is left out"


def test_nothing_about_it_is_safe_planted_or_drawn_over_levels(both, alone):
    for assessment in (both.assessments[0], alone.assessments[0]):
        assert not [part for part in (*assessment.safe, *assessment.drills) if part.norm == "unrestricted"]
        assert not assessment.auc or assessment.auc[0].norm == "linf"
        assert "hanging an image in ways that no distance bounds breaks" in assessment.verdict
        assert "safe" not in assessment.verdict.split("no distance bounds")[-1]
        assert "one wrong class was tried" not in assessment.verdict


def test_the_verdict_draws_no_conclusion_from_it(both):
    """Nothing broke under Linf, and what broke without a ball does not make that less so, nor more."""
    first, second = both.assessments[0].verdict.split(". ")
    assert first.endswith("which is not a proof")
    assert second.startswith("Changing an image in ways that no distance bounds breaks ")


def test_the_page_has_a_section_of_its_own(both, alone):
    page = HtmlReport().render(both).decode()
    assert page.count("Unrestricted examples</h3>") == 1
    assert 'href="#m1-unrestricted"' in page
    assert "Level by level" in page
    page = HtmlReport().render(alone).decode()
    assert page.count("Unrestricted examples</h3>") == 1
    assert "Level by level" not in page
    assert "How robust accuracy falls" not in page
    assert "th = 1" not in page.split("How to read this")[0].replace("&nbsp;", " ").replace("\u00a0", " ")
    assert "Unrestricted (any image)</h4>" in page
    assert "negative: asked 24" in page
    assert page.count("bounded by the attack alone") == min(12, negatives_that_break())


def test_the_terminal_shows_no_level_for_it(both):
    line = next(line for line in plain_table(both.assessments[0]).splitlines() if "unrestricted" in line)
    assert line.split("|")[1:3] == [" unrestricted (any image) ", "    "]


def test_one_list_of_levels_for_every_norm_leaves_it_alone():
    assert levels_under("unrestricted", [1, 3], ["linf", "unrestricted"]) == {}
    assert levels_under("linf", [1, 3], ["linf", "unrestricted"]) == {"levels": [1, 3]}


def test_a_targeted_verdict_says_that_one_class_was_tried(tmp_path):
    battery = [{"kind": "negative"}]
    fields = {"threats": [{"norm": "unrestricted", "goal": "targeted", "battery": battery}]}
    assert "one wrong class was tried for each image" in summary(tmp_path, [], **fields).assessments[0].verdict
