"""Randomised ablation: every set of places is equally likely, and a vote sees nothing of the others."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats

from charpy.errors import ModelError
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.random import Random
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access
from charpy_plugins.defenses.randomized_ablation import RandomizedAblation
from charpy_plugins.wrappers.callable_model import CallableModel


def ablated(model, **params):
    return RandomizedAblation(RandomizedAblation.Params(**params)).wrap(model)


def kept(model, count, shape=(1, 2, 3)):
    draws = torch.arange(count)
    random = Random(0, torch.zeros(1, dtype=torch.int64))
    return model.draw(random, torch.zeros_like(draws), draws, shape)


def test_it_is_found_by_its_name():
    assert registry().load("defenses", "randomized_ablation") is RandomizedAblation


def test_every_set_of_places_is_equally_likely():
    masks = kept(ablated(LinearModel(torch.ones(1, 2, 3)), keep=3), 8000)
    assert masks.shape == (8000, 1, 2, 3)
    found = Counter(tuple(mask.flatten().nonzero()[:, 0].tolist()) for mask in masks)
    every = list(itertools.combinations(range(6), 3))
    assert set(found) == set(every)
    assert stats.chisquare([found[subset] for subset in every]).pvalue > 0.001


def test_a_vote_sees_all_channels_of_a_kept_place_and_null_elsewhere():
    model = ablated(LinearModel(torch.ones(3, 2, 3)), keep=2, fill=0.25)
    images = torch.rand(4, 3, 2, 3) * 0.2
    masks = kept(model, 5)
    seen = model.apply(images[None], masks[:, None])
    assert seen.shape == (5, 4, 3, 2, 3)
    for draw, image in itertools.product(range(5), range(4)):
        place = masks[draw, 0]
        assert torch.equal(seen[draw, image][:, place], images[image][:, place])
        assert (seen[draw, image][:, ~place] == 0.25).all()


def test_the_doubled_encoding_tells_null_from_every_colour():
    base = LinearClassifier(torch.randn(3, 2, 2, 3, generator=torch.Generator().manual_seed(0)))
    model = ablated(base, keep=4, encoding="doubled")
    assert model.input_shape == (1, 2, 3)
    images = torch.rand(4, 1, 2, 3)
    masks = kept(model, 5)
    seen = model.apply(images[None], masks[:, None])
    assert seen.shape == (5, 4, 2, 2, 3)
    assert torch.equal(seen.sum(2), masks[:, 0][:, None].expand(5, 4, 2, 3).float())
    assert model.predict(images).shape == (4, 3)
    with pytest.raises(ModelError, match="twice the channels"):
        ablated(LinearModel(torch.ones(3, 2, 2)), encoding="doubled")


def test_the_vote_is_the_mean_over_all_subsets():
    weight = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(2))
    base = LinearModel(weight, bias=-0.5 * float(weight.sum()))
    images = torch.rand(12, 1, 2, 3, generator=torch.Generator().manual_seed(3))
    total = torch.zeros(12)
    for subset in itertools.combinations(range(6), 2):
        seen = torch.full((12, 6), 0.5)
        seen[:, subset] = images.flatten(1)[:, subset]
        total += base.predict(seen.view(12, 1, 2, 3)).argmax(1)
    expected = total / math.comb(6, 2)
    shares = ablated(base, keep=2, draws=3000).predict(images)[:, 1]
    assert (shares - expected).abs().max() < 4.5 * 0.5 / math.sqrt(3000)
    assert 0.2 < expected.mean() < 0.8


@pytest.mark.parametrize("change", [{"keep": 4}, {"fill": 0.9}, {"draws": 101}, {"seed": 4}])
def test_every_parameter_has_an_effect(change):
    images = torch.rand(20, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    model = LinearModel(torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0)), bias=-0.3)
    base, changed = ablated(model, keep=3), ablated(model, **{"keep": 3, **change})
    assert not torch.equal(base.predict(images), changed.predict(images))
    assert base.fingerprint() != changed.fingerprint()


def test_more_pixels_than_there_are_cannot_be_kept():
    model = LinearModel(torch.ones(1, 2, 2))
    with pytest.raises(ModelError, match="at most 4"):
        ablated(model, keep=5).predict(torch.rand(1, 1, 2, 2))
    assert torch.equal(  # all of them: the model itself
        ablated(model, keep=4).predict(torch.rand(1, 1, 2, 2)), torch.tensor([[0.0, 1.0]])
    )


def test_a_black_box_that_gives_labels_gets_scores():
    inside = CallableModel.from_callable(
        lambda images: (images.mean(axis=(1, 2, 3)) > 0.5).astype("int64"), array="numpy"
    )
    model = ablated(inside, num_classes=2, keep=1)
    image = torch.tensor([0.1, 0.2, 0.9, 0.3]).view(1, 1, 2, 2)
    assert model.access is Access.SCORES
    assert model.output is Output.PROBABILITIES
    assert model.predict(image)[0, 0] == pytest.approx(0.75, abs=0.2)
