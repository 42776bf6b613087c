"""Certificates by ablation on images so small that every changed image and every ablation can be tried."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from scipy.stats import hypergeom

from charpy.plugins import registry
from charpy.testing.linear import LinearModel
from charpy.threat import Goal, Norm, ThreatModel
from charpy_plugins.certifiers.randomized_ablation import RandomizedAblation, seen
from charpy_plugins.defenses.randomized_ablation import RandomizedAblation as Defence
from charpy_plugins.wrappers.callable_model import CallableModel

EVERY = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
"""All 512 binary images of 3 x 3 pixels."""

APART = (EVERY.flatten(1)[:, None] != EVERY.flatten(1)[None]).sum(2)
"""`(512, 512)` pixels in which they differ."""


def ablated(model, keep, **params):
    return Defence(Defence.Params(keep=keep, **params)).wrap(model)


def certifier(**params):
    return RandomizedAblation(RandomizedAblation.Params(**{"draws": 3000, **params}))


def linear(bias: float = 0.0) -> LinearModel:
    """How much of an image is lit, some places counting for more."""
    weight = 1 + 0.4 * torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0))
    return LinearModel(weight, bias=-0.5 * float(weight.sum()) + bias)


def nearest(points: torch.Tensor) -> LinearModel:
    """Class of the nearest of a few random images: not linear."""

    class Nearest(LinearModel):
        num_classes = 3

        def predict(self, images):
            self.rows += len(images)
            return -torch.cdist(images.flatten(1), points).view(len(images), 3, -1).amin(2)

    return Nearest(torch.ones(1, 3, 3))


MODELS = {
    "linear": linear(),
    "tilted": linear(0.3),
    "nearest": nearest(torch.rand(12, 9, generator=torch.Generator().manual_seed(4))),
}


def exact_shares(model, keep: int) -> torch.Tensor:
    """float64 `(512, K)`: the votes over all C(9, keep) ablations, by enumeration."""
    rows = []
    for subset in itertools.combinations(range(9), keep):
        ablation = torch.full((len(EVERY), 9), 0.5)
        ablation[:, subset] = EVERY.flatten(1)[:, subset]
        rows.append(model.predict(ablation.view(-1, 1, 3, 3)))
    votes = torch.stack(rows).argmax(2)
    return torch.nn.functional.one_hot(votes, model.num_classes).double().mean(0)


def smallest_change(shares: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """int64 `(512,)`: the fewest changed pixels that take the majority from the label; 10 where none do."""
    column = labels[:, None, None].expand(-1, len(EVERY), 1)
    every = shares[None].expand(len(labels), -1, -1)
    own, best = every.gather(2, column)[:, :, 0], every.scatter(2, column, -1.0).amax(2)
    return torch.where(own <= best, APART, 10).amin(1)


def test_it_is_found_by_its_name():
    assert registry().load("certifiers", "randomized_ablation") is RandomizedAblation


@pytest.mark.parametrize(
    ("pixels", "keep", "changed"), [(6, 2, 1), (6, 2, 3), (6, 5, 1), (9, 4, 4), (5, 5, 1), (6, 2, 0)]
)
def test_the_share_of_ablations_that_see_a_change_is_counted(pixels, keep, changed):
    subsets = list(itertools.combinations(range(pixels), keep))
    hit = sum(any(place < changed for place in subset) for subset in subsets)
    assert seen(pixels, keep, changed) == Fraction(hit, len(subsets))


@pytest.mark.parametrize(("pixels", "keep"), [(784, 45), (1024, 75), (50176, 2000)])
def test_it_is_the_hypergeometric_tail_at_the_sizes_of_the_paper(pixels, keep):
    for changed in (0, 1, 3, 5, 10):
        assert float(seen(pixels, keep, changed)) == pytest.approx(
            1 - hypergeom.pmf(0, pixels, changed, keep), abs=1e-9
        )
        assert seen(pixels, keep, changed) == 1 - Fraction(math.comb(pixels - changed, keep), math.comb(pixels, keep))
    assert seen(pixels, keep, pixels + 3) == seen(pixels, keep, pixels - keep + 1) == 1


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_no_change_of_so_many_pixels_breaks_what_is_proven(name, keep):
    """Every level of every binary image, against the exact vote on every image within reach."""
    model = MODELS[name]
    shares = exact_shares(model, keep)
    labels = shares.argmax(1)
    breaks = smallest_change(shares, labels)
    found, wrapped = certifier(draws=1000), ablated(model, keep)
    proven = [found.certify(wrapped, EVERY, labels, ThreatModel.at_level(Norm.L0, th)) for th in range(6)]
    for th, certified in enumerate(proven):
        assert (breaks[certified] > th).all()
        assert th == 0 or (certified <= proven[th - 1]).all()  # nested
    assert proven[1].any()


def test_the_certificate_is_tight_where_a_vote_is_its_pixel():
    """With one pixel kept each vote is the colour of its pixel: white keeps the majority until 5 of 9 are black."""
    model = LinearModel(torch.ones(1, 3, 3), bias=-4.5)  # grey NULL adds 4: the kept pixel decides
    white, label = torch.ones(1, 1, 3, 3), torch.ones(1, dtype=torch.int64)
    found, wrapped = certifier(), ablated(model, 1)
    proven = [bool(found.certify(wrapped, white, label, ThreatModel.at_level(Norm.L0, th))) for th in range(7)]
    assert proven == [True] * 5 + [False] * 2
    assert smallest_change(exact_shares(model, 1), torch.ones(512, dtype=torch.int64))[-1] == 5


def test_a_bound_that_is_just_enough_is_not():
    wrapped, threat = ablated(linear(), 2), ThreatModel.at_level(Norm.L0, 1)
    needed = 0.5 + float(seen(9, 2, 1))
    bounds = torch.tensor([0.0, needed - 1e-9, needed + 1e-9, 1.0], dtype=torch.float64)
    covered = certifier().covered(wrapped, EVERY[:4], bounds, threat)
    assert covered.tolist() == [False, False, True, True]
    half = torch.tensor([0.5, math.nextafter(0.5, 1)], dtype=torch.float64)
    assert certifier().covered(wrapped, EVERY[:2], half, ThreatModel(norm=Norm.L0, radius=0)).tolist() == [False, True]


def test_a_radius_between_two_counts_is_the_lower_one():
    wrapped, images, labels = ablated(linear(), 1), EVERY[-3:], torch.ones(3, dtype=torch.int64)
    found = certifier()
    at, between = (ThreatModel(norm=Norm.L0, radius=radius) for radius in (2, 2.9))
    assert torch.equal(found.certify(wrapped, images, labels, at), found.certify(wrapped, images, labels, between))


def test_wrong_labels_are_never_proven():
    shares = exact_shares(MODELS["nearest"], 2)
    wrong = (shares.argmax(1) + 1) % 3
    found = certifier(draws=500)
    assert not found.certify(ablated(MODELS["nearest"], 2), EVERY, wrong, ThreatModel(norm=Norm.L0, radius=0)).any()


def test_a_black_box_that_gives_labels_is_certified_alike():
    inside = CallableModel.from_callable(lambda x: (x.mean(axis=(1, 2, 3)) > 0.5).astype("int64"), array="numpy")
    plain = LinearModel(torch.full((1, 3, 3), 1 / 9), bias=-0.5)
    labels, images = torch.ones(20, dtype=torch.int64), EVERY[-20:]
    found, expected = certifier(), certifier()
    bounds = found.bounds(ablated(inside, 3, num_classes=2), images, labels)
    assert (bounds > 0.5).any()
    torch.testing.assert_close(bounds, expected.bounds(ablated(plain, 3), images, labels), rtol=0, atol=0.01)


def test_detail_names_what_is_kept_and_goals_are_both_covered():
    found, wrapped = certifier(draws=50), ablated(linear(), 3)
    threat = ThreatModel.at_level(Norm.L0, 1, goal=Goal.TARGETED)
    assert found.supports(wrapped, threat) == ""
    assert "l0" in found.supports(wrapped, ThreatModel.at_level(Norm.LINF, 1))
    assert "randomized_ablation" in found.supports(linear(), threat)
    found.certify(wrapped, EVERY[:5], torch.zeros(5, dtype=torch.int64), threat)
    assert found.detail()["keep"] == 3
