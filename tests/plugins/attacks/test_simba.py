"""simba: its bases, its two signs, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.interfaces.attack import Task
from charpy.random import Random, sample_keys
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm, ThreatModel
from charpy_plugins.attacks.score.simba import Simba, _bands, _cosines, _Walk

GENERATOR = torch.Generator().manual_seed(23)
WEIGHT = torch.randn(2, 3, 6, 5, generator=GENERATOR)
IMAGES = (0.5 + 0.1 * torch.randn(5, 3, 6, 5, generator=GENERATOR)).clamp(0.2, 0.8).mul(255).round().div(255)


def model_at(gap: float) -> LinearClassifier:
    values = (IMAGES * (WEIGHT[0] - WEIGHT[1])).flatten(1).sum(1)
    return LinearClassifier(WEIGHT, torch.tensor([gap - float(values.min()), 0.0]))


def walk_of(norm: Norm, queries: int = 1000, **params) -> _Walk:
    threat = ThreatModel(norm=norm, radius=0.3, queries=queries, grid=Grid.NONE)
    random = Random(0, sample_keys([str(i) for i in range(5)]))
    return _Walk(Task(IMAGES, torch.zeros(5, dtype=torch.int64), None, threat, None, random), Simba.Params(**params))


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_the_directions_are_an_orthonormal_basis(basis):
    walk = walk_of(Norm.L2, basis=basis)
    directions = walk._direction(torch.arange(90)).flatten(1)
    assert torch.allclose(directions @ directions.T, torch.eye(90), atol=1e-5)


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_for_linf_a_directions_largest_value_is_1(basis):
    directions = walk_of(Norm.LINF, basis=basis)._direction(torch.arange(90))
    assert torch.allclose(directions.flatten(1).abs().amax(1), torch.ones(90))


def test_the_cosines_are_the_type_2_transform():
    scipy_fft = pytest.importorskip("scipy.fft")
    expected = torch.from_numpy(scipy_fft.dct(torch.eye(7).numpy(), axis=0, norm="ortho"))
    assert torch.allclose(_cosines(7), expected, atol=1e-6)


def test_low_frequencies_come_first_and_each_direction_once():
    bands = _bands((3, 8, 8), 1 / 8, 1 / 8)
    assert bands.view(3, 8, 8)[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert bands.view(3, 8, 8)[2, :, 3].tolist() == [3, 3, 3, 3, 4, 5, 6, 7]
    walk = walk_of(Norm.L2, basis="dct")
    order = walk._ordered(torch.arange(5), torch.zeros(5, dtype=torch.int64))
    for row in order:
        assert sorted(row.tolist()) == list(range(90))
        assert bool((walk.bands[row].diff() >= 0).all())
    assert not torch.equal(order[0], order[1])


class Watched(LinearClassifier):
    """Keeps what it was asked."""

    def predict(self, images):
        self.asked = [*getattr(self, "asked", []), images.clone()]
        return super().predict(images)


def test_tries_both_signs_of_a_refused_direction(attack_with):
    model = Watched(torch.zeros(2, 3, 6, 5), torch.tensor([1.0, 0.0]))  # nothing ever helps
    params = Simba.Params(basis="pixel")
    attack_with(Simba(params), model, IMAGES[:1], norm=Norm.L2, radius=0.1, queries=21, grid=Grid.NONE)
    asked = torch.cat(model.asked)[-21:] - IMAGES[0]  # the first call named the label
    assert not bool(asked[0].any())
    assert torch.allclose(asked[1::2], -asked[2::2], atol=1e-6)
    places = asked[1::2].flatten(1).abs().argmax(1).tolist()
    assert len(set(places)) == 10


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_breaks_a_linear_model(norm, basis, attack_with):
    model = model_at(0.2)
    radius = 2 * float(model.smallest(norm, IMAGES, torch.zeros(5, dtype=torch.int64)).max())
    trial = attack_with(Simba(Simba.Params(basis=basis)), model, IMAGES, norm=norm, radius=radius, queries=3000)
    assert all(trial.broken)


@pytest.mark.parametrize(
    ("norm", "changed"),
    [
        (Norm.L2, {"basis": "pixel"}),
        (Norm.L2, {"step": 0.05}),
        (Norm.L2, {"share": 1.0}),
        (Norm.L2, {"low": 0.5}),
        (Norm.L2, {"stride": 0.5}),
        (Norm.LINF, {"loss": "probability"}),
    ],
)
def test_every_parameter_has_an_effect(norm, changed, attack_with):
    model = model_at(20.0)
    if "loss" in changed:  # with three classes the margin and the probability disagree
        model.weight = torch.cat([WEIGHT, -WEIGHT[1:]])
        model.bias, model.num_classes = torch.tensor([float(model.bias[0]), 0.0, 0.0]), 3
    runs = [
        attack_with(Simba(Simba.Params(**params)), model, IMAGES, norm=norm, radius=0.3, queries=120).found
        for params in ({}, {}, changed)
    ]
    assert torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[2].trace.nan_to_num())


def test_begins_again_after_the_last_direction(attack_with):
    model = model_at(500.0)
    trial = attack_with(Simba(), model, IMAGES, norm=Norm.L2, radius=0.3, queries=700)
    assert trial.found.queries.tolist() == [700] * 5


@pytest.mark.parametrize(
    ("norm", "level", "basis", "side"),
    [
        (Norm.LINF, 1, "dct", 28),
        (Norm.LINF, 1, "pixel", 28),
        (Norm.LINF, 2, "dct", 28),
        (Norm.L2, 32, "dct", 64),
        (Norm.L2, 16, "pixel", 28),
    ],
)
def test_a_step_on_the_grid_is_no_step_into_the_same_image(norm, level, basis, side, attack_with):
    """The first direction and its other sign already change the image that the model is asked about."""
    model = LinearClassifier(torch.ones(2, 1, side, side) * torch.tensor([2.0, 1.0])[:, None, None, None])
    grey, asked, predict = torch.full((1, 1, side, side), 128 / 255), [], model.predict
    model.predict = lambda images: (asked.append(images.clone()), predict(images))[1]
    attack = Simba(Simba.Params(basis=basis))
    attack_with(attack, model, grey, norm=norm, radius=level / 255, queries=30, labels=torch.tensor([0]))
    changed = [bool((image != grey).any()) for image in asked[1:]]
    assert sum(changed) >= 0.9 * len(changed)
    assert len({image.numpy().tobytes() for image in asked}) > 10
