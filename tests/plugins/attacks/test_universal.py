"""universal: one perturbation, as good as the best one where that is known, and an account of every row."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.oracle import Oracle
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Grid, Norm, ThreatModel

GENERATOR = torch.Generator().manual_seed(5)
WEIGHT = torch.randn(2, 1, 6, 6, generator=GENERATOR)
IMAGES = torch.randint(90, 166, (40, 1, 6, 6), generator=GENERATOR) / 255
VALUES = ((WEIGHT[1] - WEIGHT[0]) * IMAGES).flatten(1).sum(1)
TWO = LinearClassifier(WEIGHT, torch.tensor([0.0, float(-VALUES.min()) + 0.01]))
"""Two classes, and every image is of class 1: the best perturbation is one step against the same weights for all."""

ONES = torch.ones(40, dtype=torch.int64)


def made(**params):
    return registry().create("attacks", "universal", params)


def distance(norm: Norm) -> torch.Tensor:
    push = (WEIGHT[1] - WEIGHT[0]).flatten()
    return (VALUES - VALUES.min() + 0.01) / (push.abs().sum() if norm is Norm.LINF else push.norm())


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_breaks_what_the_best_perturbation_breaks(norm, share, attack_with):
    exact = distance(norm)
    radius = float(exact.quantile(share)) * (1.001 if share == 1 else 1)
    trial = attack_with(made(epochs=20, batch=20), TWO, IMAGES, norm=norm, radius=radius, labels=ONES, grid=Grid.NONE)
    best = int((exact < radius).sum())
    assert best - 1 <= sum(trial.broken) <= best
    assert best >= 10


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_all_witnesses_show_the_same_perturbation_inside_the_ball(norm, attack_with):
    radius = float(distance(norm).quantile(0.8))
    trial = attack_with(made(), TWO, IMAGES, norm=norm, radius=radius, labels=ONES, grid=Grid.NONE)
    moved = (trial.found.images - IMAGES)[trial.found.found]
    assert len(moved) > 20
    assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-6)
    size = moved[0].abs().max() if norm is Norm.LINF else moved[0].norm()
    assert float(size) <= radius + 1e-6


def test_images_at_the_edge_of_the_box_stay_in_it(attack_with):
    images = (IMAGES > 0.5).float()
    labels = TWO.predict(images).argmax(1)
    trial = attack_with(made(), TWO, images, norm=Norm.LINF, radius=0.4, labels=labels, grid=Grid.NONE)
    assert any(trial.broken)
    assert float(trial.found.images.min()) >= 0
    assert float(trial.found.images.max()) <= 1


def test_only_the_last_row_of_a_sample_can_break_it(attack_with):
    radius = float(distance(Norm.LINF).max()) * 1.5
    trial = attack_with(made(epochs=6, batch=7), TWO, IMAGES, norm=Norm.LINF, radius=radius, labels=ONES)
    assert all(trial.broken)
    assert set(trial.found.queries_to_success.tolist()) == {7}
    assert trial.rows == 7 * len(IMAGES)


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_a_small_budget_leaves_its_last_row_for_the_result(queries, attack_with):
    trial = attack_with(made(), TWO, IMAGES, norm=Norm.LINF, radius=0.2, labels=ONES, queries=queries)
    assert trial.found.queries.tolist() == [queries] * len(IMAGES)
    assert any(trial.broken) == (queries > 1)


def test_one_class_withstands_and_only_one(attack_with):
    weight = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    images = (0.5 + 0.1 * weight[torch.arange(40) % 4]).clamp(0, 1)
    labels = model.predict(images).argmax(1)
    trial = attack_with(made(batch=10), model, images, norm=Norm.LINF, radius=0.3, labels=labels, grid=Grid.NONE)
    assert len(set(labels[~trial.found.found].tolist())) == 1


def test_a_confident_model_has_a_slope_too(attack_with):
    """Of 1e4 times the scores, the classes are the same: so are the best perturbation and what it breaks."""
    confident = LinearClassifier(1e4 * TWO.weight, 1e4 * TWO.bias)
    exact = distance(Norm.LINF)
    radius = float(exact.quantile(0.7))
    trial = attack_with(made(), confident, IMAGES, norm=Norm.LINF, radius=radius, labels=ONES, grid=Grid.NONE)
    assert sum(trial.broken) >= int((exact < radius).sum()) - 1


def test_the_same_seed_gives_the_same_result_and_every_parameter_has_an_effect(attack_with):
    weight = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    images = (0.5 + 0.1 * weight[torch.arange(24) % 4]).clamp(0, 1)

    def images_of(seed=0, **params):
        base = {"epochs": 5, "batch": 8, "step_size": 0.4}
        trial = attack_with(
            made(**{**base, **params}), model, images, norm=Norm.L2, radius=1.0, grid=Grid.NONE, seed=seed
        )
        assert any(trial.broken)
        return trial.found.images

    base = images_of()
    assert torch.equal(base, images_of())
    assert not torch.equal(base, images_of(seed=1))
    for changed in ({"epochs": 6}, {"batch": 5}, {"step_size": 0.2}, {"clip": 3.0}):
        assert not torch.equal(base, images_of(**changed)), changed


def test_a_rehearsal_is_charged_and_settles_nothing():
    way = Way("as given", TWO.predict, 64, 1e-6, invariant=True)
    threat = ThreatModel(norm=Norm.LINF, radius=0.5, access=Access.GRADIENTS, queries=3, grid=Grid.NONE)
    engine = QueryEngine(TWO, TWO.output, way, way, num_classes=2)
    oracle = Oracle(engine, TWO, IMAGES[:2], ONES[:2], None, threat)
    broken = (IMAGES[:2] - 0.5 * (WEIGHT[1] - WEIGHT[0]).sign()).clamp(0, 1)
    sample = torch.arange(2)
    rehearsed = oracle.loss_and_gradient(broken, sample, "margin", rehearsal=True)
    assert bool((rehearsed.loss < 0).all()), "they do break it"
    assert oracle.queries.tolist() == [1, 1]
    assert oracle.active.tolist() == [True, True]
    assert not bool(oracle.recorded().found.any())
    oracle.loss_and_gradient(broken, sample, "margin")
    assert oracle.recorded().queries_to_success.tolist() == [2, 2]
