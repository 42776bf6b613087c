"""Randomised smoothing: the noise is normal far into its tails, and a linear model's vote is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.random import Random
from charpy.testing.linear import LinearModel
from charpy.threat import Access
from charpy_plugins.defenses.randomized_smoothing import RandomizedSmoothing, gaussian
from charpy_plugins.wrappers.callable_model import CallableModel

ONE = torch.zeros(1, dtype=torch.int64)


def smoothed(model, **params):
    return RandomizedSmoothing(RandomizedSmoothing.Params(**params)).wrap(model)


def test_it_is_found_by_its_name():
    assert registry().load("defenses", "randomized_smoothing") is RandomizedSmoothing


def test_the_noise_is_normal():
    draws = torch.arange(400)
    model = smoothed(LinearModel(torch.ones(3, 25, 27)), sigma=0.5)
    noise = model.draw(Random(3, ONE), torch.zeros_like(draws), draws, (3, 25, 27)).double() / 0.5
    assert noise.isfinite().all()
    count = noise.numel()
    assert abs(noise.mean()) < 4 / math.sqrt(count)
    assert abs(noise.var() - 1) < 4 * math.sqrt(2 / count)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.001
    beyond = int((noise.abs() > 4.4).sum())
    expected = 2 * stats.norm.sf(4.4) * count
    assert abs(beyond - expected) < 4 * math.sqrt(expected)
    pairs = noise.flatten(1)
    assert abs(float((pairs[:, :1012] * pairs[:, 1013:2025]).mean())) < 4 / math.sqrt(400 * 1012)
    assert len(noise.unique()) > 0.9 * count


def test_noise_depends_on_its_key_alone():
    random = Random(3, torch.arange(4))
    rows, draws = torch.tensor([2, 0, 2]), torch.tensor([5, 5, 6])
    noise = gaussian(random, rows, draws, (1, 3, 5))
    assert torch.equal(gaussian(random, rows[1:2], draws[1:2], (1, 3, 5))[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert noise.shape == (3, 1, 3, 5)


def test_the_vote_of_a_linear_model_is_phi_of_its_margin():
    weight = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = LinearModel(weight)
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    margin = (images * weight).flatten(1).sum(1)
    expected = torch.special.ndtr(margin / (0.5 * weight.norm()))
    draws = 4000
    shares = smoothed(model, sigma=0.5, draws=draws, clip=False).predict(images)
    error = (shares[:, 1] - expected) / (expected * (1 - expected) / draws).sqrt()
    assert error.abs().max() < 4.5
    torch.testing.assert_close(shares.sum(1), torch.ones(30))


@pytest.mark.parametrize("clip", [True, False])
def test_the_model_inside_sees_images_only_if_clipped(clip):
    seen = []

    class Spy(LinearModel):
        def predict(self, images):
            seen.append(images)
            return super().predict(images)

    smoothed(Spy(torch.ones(1, 3, 3)), sigma=0.7, clip=clip).predict(torch.rand(5, 1, 3, 3))
    rows = torch.cat(seen)
    assert len(rows) == 500
    assert bool(((rows >= 0) & (rows <= 1)).all()) is clip


@pytest.mark.parametrize("change", [{"sigma": 0.9}, {"clip": False}, {"draws": 101}, {"seed": 4}])
def test_every_parameter_has_an_effect(change):
    images = torch.rand(20, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    model = LinearModel(torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0)), bias=-0.3)
    base, changed = smoothed(model), smoothed(model, **change)
    assert not torch.equal(base.predict(images), changed.predict(images))
    assert base.fingerprint() != changed.fingerprint()


def test_a_black_box_that_gives_labels_gets_scores():
    inside = CallableModel.from_callable(
        lambda images: (images.mean(axis=(1, 2, 3)) > 0.5).astype("int64"), array="numpy"
    )
    model = smoothed(inside, num_classes=2, sigma=0.3)
    shares = model.predict(torch.full((2, 1, 2, 2), 0.5) + torch.tensor([0.1, -0.3]).view(2, 1, 1, 1))
    assert model.access is Access.SCORES
    assert model.output is Output.PROBABILITIES
    assert 0.5 < shares[0, 1] < 1
    assert shares[1, 0] > 0.9


def test_the_model_itself_stays_as_it_is():
    model = LinearModel(torch.ones(1, 2, 2))
    before = dict(model.fingerprint())
    smoothed(model).predict(torch.rand(2, 1, 2, 2))
    assert dict(model.fingerprint()) == before
    assert model.output is Output.LOGITS
