"""Planted adversarial examples: one is there for certain, and only an attack that works finds it."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.interfaces.model import Output
from charpy.losses import margin
from charpy.oracle import Oracle
from charpy.planted import DRAWS, _edge, drill, plant
from charpy.random import Random, sample_keys
from charpy.testing.linear import LinearClassifier
from charpy.threat import BALLS, Access, Grid, Norm, ThreatModel

COUNT = 5
RADII = {Norm.L0: 3.0, Norm.L1: 2.0, Norm.L2: 0.5, Norm.LINF: 8 / 255}


def engine_of(model: LinearClassifier) -> QueryEngine:
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    classes = 0 if model.output is Output.LABELS else model.num_classes
    return QueryEngine(model, model.output, way, way, num_classes=classes)


def problem(output: Output = Output.LOGITS):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 1, 6, 6, generator=generator)
    images = torch.rand(COUNT, 1, 6, 6, generator=generator).mul(255).round().div(255)
    model = LinearClassifier(weight, output=output)
    labels = LinearClassifier(weight).predict(images).argmax(1)
    return model, images, labels


def threat_of(norm: Norm, **rest) -> ThreatModel:
    return ThreatModel(norm=norm, radius=RADII[norm], access=Access.GRADIENTS, queries=400, **rest)


def streams() -> Random:
    return Random(0, sample_keys([f"image {i}" for i in range(COUNT)]))


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("grid", Grid)
@pytest.mark.parametrize("targeted", [False, True])
def test_a_point_inside_the_ball_is_adversarial_and_the_sample_is_not(norm, grid, targeted):
    model, images, labels = problem()
    targets = (labels + 1) % 4 if targeted else None
    threat = threat_of(norm, grid=grid)
    change, usable = plant(engine_of(model), images, labels, targets, threat, streams())
    assert bool(usable.all())
    moved = change(images, torch.arange(COUNT), model.predict(images))
    own = margin(model.predict(images), labels, targets)
    assert bool((margin(moved, labels, targets) > 0.05 * own.abs()).all()), "the sample itself is on the other side"
    done = drill(
        _random_search(images, threat), engine_of(model), images, labels, targets, threat, streams(), unbounded=False
    )
    assert (done.planted, done.found) == (COUNT, COUNT)


def _random_search(images, threat):
    """An attack that asks about the very points among which the plant chose."""

    def run(oracle: Oracle) -> str:
        random = streams().fork("planted")  # the plant's own draws: they hold the planted point
        owner = torch.arange(COUNT).repeat_interleave(DRAWS)
        points = _edge(threat, images[owner], random, owner, torch.arange(DRAWS).repeat(COUNT))
        oracle.scores(points, owner)
        return ""

    return run


@pytest.mark.parametrize("norm", BALLS)
def test_an_attack_that_does_nothing_finds_nothing(norm):
    model, images, labels = problem()

    def idle(oracle: Oracle) -> str:
        oracle.scores(images, torch.arange(COUNT))
        return ""

    done = drill(idle, engine_of(model), images, labels, None, threat_of(norm), streams(), unbounded=True)
    assert (done.planted, done.found, done.unbounded, done.reached) == (COUNT, 0, COUNT, 0)


def test_the_gradient_is_that_of_the_moved_decision():
    model, images, labels = problem()
    change, _ = plant(engine_of(model), images, labels, None, threat_of(Norm.LINF), streams())
    oracle = Oracle(engine_of(model), model, images, labels, None, threat_of(Norm.LINF), plant=change)
    rows = torch.arange(COUNT)
    loss, gradient, scores = oracle.loss_and_gradient(images, rows, "margin")
    plain = Oracle(engine_of(model), model, images, labels, None, threat_of(Norm.LINF))
    assert torch.allclose(loss, margin(change(images, rows, model.predict(images)), labels), atol=1e-5)
    assert torch.allclose(scores, change(images, rows, model.predict(images)), atol=1e-5)
    other = plain.loss_and_gradient(images, rows, "margin")
    assert not torch.allclose(loss, other.loss)
    same = scores.argsort(1)[:, -2:].sort(1).values.eq(other.scores.argsort(1)[:, -2:].sort(1).values).all(1)
    assert torch.allclose(gradient[same], other.gradient[same])


def test_a_model_that_never_moves_has_no_plant():
    _, images, labels = problem()
    still = LinearClassifier(torch.zeros(4, 1, 6, 6), torch.tensor([1.0, 0, 0, 0]))
    threat = threat_of(Norm.LINF)
    _, usable = plant(engine_of(still), images, torch.zeros_like(labels), None, threat, streams())
    assert not bool(usable.any())


def test_a_model_that_gives_labels_only_gets_a_half_space():
    model, images, labels = problem(Output.LABELS)
    threat = ThreatModel(norm=Norm.LINF, radius=RADII[Norm.LINF], access=Access.LABELS, queries=400)
    change, usable = plant(engine_of(model), images, labels, None, threat, streams())
    assert bool(usable.all())
    rows = torch.arange(COUNT)
    assert change(images, rows, labels).eq(labels).all(), "the sample itself"
    assert change(images + change.direction, rows, labels).ne(labels).all(), "the planted point"
    assert change(images + 0.4 * change.direction, rows, labels).eq(labels).all(), "less than half the way"


@pytest.mark.parametrize("norm", BALLS)
def test_random_points_are_made_in_pieces_that_change_nothing(norm, monkeypatch):
    """Of 8 images of 299 x 299 all points at once would be 2 GB, and as much again for each step on the way."""
    model, images, labels = problem()
    made = []

    def edge(threat, images, *rest):
        made.append(len(images))
        return _edge(threat, images, *rest)

    monkeypatch.setattr("charpy.planted._edge", edge)
    whole, _ = plant(engine_of(model), images, labels, None, threat_of(norm), streams())
    assert made == [COUNT * DRAWS]
    monkeypatch.setattr("charpy.planted.VALUES", 1000)
    pieces, _ = plant(engine_of(model), images, labels, None, threat_of(norm), streams())
    assert made[1:] == [64] * (COUNT * DRAWS // 64)
    assert torch.equal(whole.offset, pieces.offset)
