"""one_pixel: one pixel whatever the level, by differential evolution, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.pixels import distances, quantise
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Norm
from charpy_plugins.attacks.score.one_pixel import OnePixel

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randint(0, 256, (6, 3, 6, 5), generator=GENERATOR).float() / 255
WEIGHT = torch.randn(3, 6, 5, generator=GENERATOR)


def at_distance(count: float) -> LinearModel:
    """A linear model of class 0, for whose nearest image the best pixel gains `count` times what is needed."""
    values = (IMAGES * WEIGHT).flatten(1).sum(1)
    shifted = LinearModel(WEIGHT, float(-values.max()) - 1e-3)
    best = shifted.pixel_gains(IMAGES).amax(1)
    return LinearModel(WEIGHT, float((-values - best / count).min()))


@pytest.mark.parametrize("th", [1, 5])
def test_changes_one_pixel_at_every_level(th, attack_with):
    params = OnePixel.Params(population=40)
    model = at_distance(1.2)
    trial = attack_with(OnePixel(params), model, IMAGES, norm=Norm.L0, th=th, queries=2000)
    possible = model.smallest_l0(IMAGES) == 1
    assert bool(possible.any())
    found = trial.found.found
    assert not bool((found & ~possible).any()), "more than one pixel"
    assert bool((found == possible).all())
    assert distances(Norm.L0, quantise(IMAGES), trial.found.images)[found].tolist() == [1] * int(found.sum())


def test_finds_the_pixel_that_counts(attack_with):
    weight = torch.zeros(3, 6, 5)
    weight[:, 4, 2] = torch.tensor([1.0, 1.0, -1.0])
    images = torch.full((4, 3, 6, 5), 128 / 255)
    values = float((images[0] * weight).sum())
    model = LinearModel(weight, -values - 1.2)
    trial = attack_with(OnePixel(), model, images, norm=Norm.L0, th=1, queries=20_000)
    assert all(trial.broken)
    assert bool(((trial.found.images != quantise(images)).any(1).flatten(1).nonzero()[:, 1] == 4 * 5 + 2).all())


@pytest.mark.parametrize("changed", [{"population": 30}, {"generations": 3}, {"scale": 0.9}, {"fitness": "margin"}])
def test_every_parameter_has_an_effect(changed, attack_with):
    weight = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    bias = -(IMAGES[:, None] * weight).flatten(2).sum(2).amax(0) + torch.tensor([20.0, 0.0, 0.0, 0.0])
    model = LinearClassifier(weight, bias)  # four classes: the margin and the probability disagree
    runs = [
        attack_with(OnePixel(OnePixel.Params(**params)), model, IMAGES, norm=Norm.L0, queries=400).found
        for params in ({"population": 20, "generations": 12} | extra for extra in ({}, {}, changed))
    ]
    assert torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[2].trace.nan_to_num())


def test_ends_after_its_generations(attack_with):
    params = OnePixel.Params(population=10, generations=4)
    trial = attack_with(OnePixel(params), at_distance(0.5), IMAGES, norm=Norm.L0, queries=500)
    assert trial.found.queries.tolist() == [40] * len(IMAGES)
