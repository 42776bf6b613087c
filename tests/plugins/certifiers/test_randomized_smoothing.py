"""Certificates by Gaussian noise against a linear model, whose smoothed boundary is its own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import norm as normal

from charpy.plugins import registry
from charpy.testing.linear import LinearModel
from charpy.threat import Goal, Grid, Norm, ThreatModel
from charpy_plugins.certifiers.randomized_smoothing import RandomizedSmoothing, farthest
from charpy_plugins.defenses.randomized_smoothing import RandomizedSmoothing as Defence
from charpy_plugins.wrappers.callable_model import CallableModel

SIGMA = 0.5
WEIGHT = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))


def smoothed(model, **params):
    return Defence(Defence.Params(**{"sigma": SIGMA, "clip": False, **params})).wrap(model)


def certifier(**params):
    return RandomizedSmoothing(RandomizedSmoothing.Params(**{"draws": 2000, **params}))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def truth(images) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, shares of votes and L2 distances to the boundary: Phi(|w . x| / (sigma ||w||)) and |w . x| / ||w||."""
    value = (images * WEIGHT).flatten(1).sum(1).double()
    distance = value.abs() / WEIGHT.double().norm()
    return (value > 0).long(), torch.special.ndtr(distance / SIGMA), distance


def test_it_is_found_by_its_name():
    assert registry().load("certifiers", "randomized_smoothing") is RandomizedSmoothing


def test_bounds_lie_below_the_true_share_and_near_it(images, truth):
    labels, share, _ = truth
    bounds = certifier().bounds(smoothed(LinearModel(WEIGHT)), images, labels)
    chosen = bounds > 0
    assert chosen.sum() > 24
    assert (bounds <= share).all()
    spread = (share * (1 - share) / 2000).sqrt()
    assert (share - bounds)[chosen].max() < 8 * spread.max()


def test_bounds_fail_as_often_as_alpha_allows():
    """Over 2500 images, a bound above the true share Phi(distance / sigma) is as rare as alpha, and not much rarer."""
    images = torch.rand(2500, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    weight = torch.tensor([1.0, -2.0, 0.5, 1.5]).view(1, 2, 2)
    value = (images * weight).flatten(1).sum(1).double() - 0.5
    share = torch.special.ndtr(value.abs() / (SIGMA * weight.double().norm()))
    model, found = smoothed(LinearModel(weight, bias=-0.5)), certifier(draws=400, alpha=0.05)
    bounds = found.bounds(model, images, (value > 0).long())
    failed = (bounds > share)[bounds > 0].double().mean()
    assert 0.02 < failed < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2500)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF, Norm.L1])
def test_no_proof_reaches_past_the_true_boundary(images, truth, norm):
    """sigma Phi^-1 of the true share is exactly the distance to the boundary: what is proven is less, and not much."""
    labels, _, distance = truth
    model, found = smoothed(LinearModel(WEIGHT)), certifier()
    stretch = 4.0 if norm is Norm.LINF else 1.0
    reached = torch.zeros(len(images), dtype=torch.float64)
    for radius in torch.linspace(0, 1.2, 61).tolist():
        proven = found.certify(model, images, labels, ThreatModel(norm=norm, radius=radius / stretch))
        assert (distance[proven] > radius).all()
        assert (proven <= (reached >= radius - 0.021)).all() or radius == 0  # nested
        reached[proven] = radius
    far = distance > 0.1
    assert far.sum() > 15
    assert (reached[far] > distance[far] - 0.17).all()


def test_radius_0_is_proven_where_the_majority_is_sure(images, truth):
    labels, share, _ = truth
    found = certifier()
    proven = found.certify(smoothed(LinearModel(WEIGHT)), images, labels, ThreatModel(norm=Norm.L2, radius=0))
    assert proven[share > 0.6].all()
    assert int((~proven).sum()) == found.detail()["abstained"] + found.detail()["other_class"]


def test_on_the_boundary_it_abstains():
    image = torch.full((1, 1, 4, 4), 0.5)
    on = LinearModel(WEIGHT, bias=-0.5 * float(WEIGHT.sum()))
    for label in (0, 1):
        threat = ThreatModel(norm=Norm.L2, radius=0)
        assert not certifier().certify(smoothed(on), image, torch.tensor([label]), threat).any()


def test_a_planted_wrong_label_is_never_proven(images, truth):
    labels, _, _ = truth
    threat = ThreatModel(norm=Norm.L2, radius=0)
    assert not certifier().certify(smoothed(LinearModel(WEIGHT)), images, 1 - labels, threat).any()


def test_a_black_box_that_gives_labels_is_certified_alike(images, truth):
    labels, _, _ = truth
    weight = WEIGHT.numpy()
    inside = CallableModel.from_callable(
        lambda x: ((x * weight).sum(axis=(1, 2, 3)) > 0).astype("int64"), array="numpy"
    )
    bounds = certifier().bounds(smoothed(inside, num_classes=2), images, labels)
    expected = certifier().bounds(smoothed(LinearModel(WEIGHT)), images, labels)
    torch.testing.assert_close(bounds, expected, rtol=0, atol=2e-3)


def test_clipping_is_part_of_the_model_and_proofs_stay_sound(images):
    """With the noise clipped the smoothed answer has no closed form: its majority is measured by many draws around."""
    model = smoothed(LinearModel(WEIGHT), clip=True, draws=4000, seed=9)
    shares = model.predict(images)
    labels = shares.argmax(1)
    radius = 0.2
    proven = certifier(draws=4000).certify(model, images, labels, ThreatModel(norm=Norm.L2, radius=radius))
    assert proven.any()
    sign = (1 - 2 * labels).view(-1, 1, 1, 1)
    worst = (images + radius * sign * WEIGHT / WEIGHT.norm()).clamp(0, 1)
    assert (model.predict(worst).gather(1, labels[:, None])[proven] > 0.5 - 4 * 0.5 / math.sqrt(4000)).all()


@pytest.mark.parametrize("changed", [0, 1, 2, 4])
def test_the_farthest_image_of_a_few_pixels_is_found_by_enumeration(changed):
    images = torch.rand(5, 2, 2, 2, generator=torch.Generator().manual_seed(changed))
    far = torch.zeros(5, dtype=torch.float64)
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8))).view(-1, 2, 2, 2)
    for places in itertools.combinations(range(4), changed):
        mask = torch.zeros(4, dtype=torch.bool)
        mask[list(places)] = True
        other = torch.where(mask.view(2, 2), corners[:, None], images)
        far = torch.maximum(far, (other - images).double().flatten(2).norm(dim=2).amax(0))
    threat = ThreatModel(norm=Norm.L0, radius=changed)
    torch.testing.assert_close(farthest(images, threat), far)


def test_what_the_judge_forgives_off_the_grid_is_proven_too():
    image = torch.zeros(1, 3, 2, 2)
    on, off = (ThreatModel(norm=Norm.LINF, radius=0.25, grid=grid) for grid in Grid)
    assert farthest(image, on).item() == pytest.approx(0.25 * math.sqrt(12), abs=1e-12)
    assert farthest(image, off).item() == pytest.approx((0.25 + 1e-6) * math.sqrt(12), abs=1e-12)


def test_the_radius_is_sigma_phi_inverse_of_the_bound():
    model, threat = smoothed(LinearModel(WEIGHT)), ThreatModel(norm=Norm.L2, radius=0.7)
    edge = float(normal.cdf(0.7 / SIGMA))
    bounds = torch.tensor([0.0, 0.3, 0.5, edge - 1e-9, edge + 1e-9, 0.99999], dtype=torch.float64)
    covered = certifier().covered(model, torch.zeros(6, 1, 4, 4), bounds, threat)
    assert covered.tolist() == [False, False, False, False, True, True]


def test_detail_names_the_noise_and_goals_are_both_covered(images, truth):
    found, model = certifier(), smoothed(LinearModel(WEIGHT))
    threat = ThreatModel(norm=Norm.L2, radius=0.1, goal=Goal.TARGETED)
    assert found.supports(model, threat) == ""
    found.certify(model, images, truth[0], threat)
    assert found.detail()["sigma"] == SIGMA
    assert found.detail()["samples"] == len(images)
    assert "randomized_smoothing" in found.supports(LinearModel(WEIGHT), threat)
