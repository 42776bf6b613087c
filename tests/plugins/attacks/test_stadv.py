"""stAdv: the flow's roughness by hand, the objective against SciPy, a trained network, and what tau does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from charpy.losses import margin
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy.warp import flowed
from charpy_plugins.attacks.unrestricted import stadv
from charpy_plugins.attacks.unrestricted.stadv import Stadv, roughness

GENERATOR = torch.Generator().manual_seed(4)
IMAGES = torch.rand(6, 2, 5, 7, generator=GENERATOR)
MODEL = LinearClassifier(torch.randn(3, 2, 5, 7, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
FREE = {"norm": Norm.UNRESTRICTED, "radius": 1.0, "grid": Grid.NONE}


@pytest.fixture
def flows(monkeypatch):
    """Every flow that is tried, call by call."""
    tried = []

    def noted(images, flow):
        tried.append(flow.detach().clone())
        return flowed(images, flow)

    monkeypatch.setattr(stadv, "flowed", noted)
    return tried


def test_roughness_is_the_sum_over_pixels_and_their_four_neighbours():
    flow = torch.randn(2, 2, 4, 3, generator=GENERATOR, dtype=torch.float64)
    for row in range(2):
        total = 0.0
        for y, x in itertools.product(range(4), range(3)):
            for other in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= other[0] < 4 and 0 <= other[1] < 3:
                    gap = flow[row, :, y, x] - flow[row, :, other[0], other[1]]
                    total += float(gap.square().sum().sqrt())
        assert float(roughness(flow)[row]) == pytest.approx(total, rel=2e-3)
    assert float(roughness(torch.ones(1, 2, 4, 3)).abs()) < 1e-6
    still = torch.zeros(1, 2, 4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(roughness(still).sum(), still)
    assert not bool(slope.any())


def test_it_begins_with_no_flow_and_without_tau_descends_the_loss(flows, attack_with):
    params = Stadv.Params(tau=0, steps=12, searches=1)
    trial = attack_with(Stadv(params), MODEL, IMAGES, **FREE)
    assert torch.allclose(trial.course[0], IMAGES, atol=1e-6)
    still = torch.zeros(6, 2, 5, 7, requires_grad=True)
    (slope,) = torch.autograd.grad(margin(MODEL.predict(flowed(IMAGES, still)), LABELS).sum(), still)
    cosine = torch.nn.functional.cosine_similarity((flows[1] - flows[0]).flatten(1), -slope.flatten(1))
    assert float(cosine.min()) > 0.999
    assert all(trial.broken)


@pytest.mark.parametrize("tau", [0.003, 0.01])
def test_it_reaches_the_optimum_where_there_is_one_valley(tau, flows, attack_with):
    """On ramps that a linear model sees away from their edges the objective is convex: SciPy has its minimum.

    A smaller tau would put it on the kink where the goal is just reached, on which a quasi-Newton method stalls.
    """
    rows, columns = torch.arange(9.0)[:, None], torch.arange(8.0)
    ramps = torch.stack([0.1 + 0.06 * rows + 0.03 * columns, 0.8 - 0.02 * rows - 0.06 * columns])[None]
    weight = torch.zeros(2, 2, 9, 8)
    inner = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    weight[0, :, 2:-2, 2:-2] = inner - inner.mean((1, 2), keepdim=True)  # a translation of everything changes nothing
    reach = 1.5
    model = LinearClassifier(weight, torch.tensor([0.3 - float((ramps * weight[0]).sum()), 0.0]))

    def objective(flow):
        excess = margin(model.predict(flowed(ramps, flow)), torch.zeros(1).long())
        return excess.clamp_min(0) + tau * roughness(flow)

    params = Stadv.Params(tau=tau, steps=400, searches=1, reach=reach / 9)
    attack_with(Stadv(params), model, ramps, labels=torch.zeros(1).long(), **FREE)
    found = min(float(objective(flow)) for flow in flows)
    assert all(float(flow.abs().max()) <= reach + 1e-5 for flow in flows)

    def value(flat):
        flow = torch.tensor(flat, dtype=torch.float32).view(1, 2, 9, 8).requires_grad_()
        total = objective(flow)
        total.backward()
        return total.item(), flow.grad.flatten().double().numpy()

    bounds = [(-reach, reach)] * 144
    best = minimize(value, np.zeros(144), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 3000}).fun
    assert 0.01 < best < 0.295
    assert found < 1.03 * best


def test_a_heavier_tau_gives_smoother_flows(flows, attack_with):
    def least(tau):
        flows.clear()
        trial = attack_with(Stadv(Stadv.Params(tau=tau, steps=80, searches=1)), MODEL, IMAGES[:1], **FREE)
        wrong = [margin(MODEL.predict(image), LABELS[:1]).item() < 0 for image in trial.course]
        return min(float(roughness(flow)) for flow, hit in zip(flows, wrong, strict=True) if hit)

    rough = [least(tau) for tau in (0.0, 0.02)]
    assert rough[1] < 0.5 * rough[0]


def test_where_tau_forbids_all_but_translations_a_tenth_of_it_is_tried(attack_with):
    broken = [
        sum(attack_with(Stadv(Stadv.Params(tau=100.0, reach=0.1, searches=searches)), MODEL, IMAGES, **FREE).broken)
        for searches in (1, 5)
    ]
    assert broken[0] < len(IMAGES)
    assert broken[1] == len(IMAGES)


def test_a_budget_too_small_for_every_weight_is_shared_among_them(attack_with):
    """A whole search with the first weight, in vain, would take the budget."""
    trial = attack_with(Stadv(Stadv.Params(tau=100.0, reach=0.1)), MODEL, IMAGES, queries=60, **FREE)
    assert all(trial.broken)


def test_the_next_weight_goes_on_near_the_flow_that_the_last_one_ended_at(flows, attack_with):
    out_of_reach = LinearClassifier(MODEL.weight, torch.tensor([1e3, 0.0, 0.0]))
    params = Stadv.Params(steps=6, searches=2, tau=0.01)
    attack_with(Stadv(params), out_of_reach, IMAGES[:1], labels=torch.zeros(1).long(), **FREE)
    assert len(flows) == 12
    apart = min(float((flows[6] - flow).abs().max()) for flow in flows[1:6])
    assert 0.3 < apart <= stadv.SHAKE + 1e-5
    assert float(flows[6].abs().max()) > stadv.SHAKE + 1e-5


def test_it_gets_away_from_a_whole_pixel_where_the_picture_is_flat(attack_with):
    """One bright column on black, and a class of its right neighbour: no flow has a slope toward reading it."""
    images = torch.zeros(1, 1, 5, 7)
    images[..., 2] = 1.0
    weight = torch.zeros(2, 1, 5, 7)
    weight[1, 0, :, 3] = 1.0
    model = LinearClassifier(weight, torch.tensor([1.0, 0.0]))
    trial = attack_with(Stadv(Stadv.Params(reach=0.1)), model, images, labels=torch.zeros(1).long(), **FREE)
    assert all(trial.broken)


@pytest.mark.parametrize("scale", [1e-4, 1e3, 1e30])
def test_the_scale_of_the_scores_does_not_matter(scale, attack_with):
    trial = attack_with(Stadv(), LinearClassifier(scale * MODEL.weight), IMAGES, **FREE)
    assert all(trial.broken)


@pytest.mark.parametrize("changed", [{"kappa": 0.5}, {"reach": 0.02}, {"memory": 1}, {"steps": 3}])
def test_every_parameter_changes_the_result(changed, attack_with):
    usual, other = (
        attack_with(Stadv(Stadv.Params(**{"steps": 30, **given})), MODEL, IMAGES, **FREE).found.images
        for given in ({}, changed)
    )
    assert not torch.equal(usual, other)


def test_steps_and_searches_bound_the_queries(attack_with):
    still = LinearClassifier(torch.zeros(3, 2, 5, 7), torch.tensor([1.0, 0.0, 0.0]))
    labels = torch.zeros(6).long()
    params = Stadv.Params(steps=4, searches=3)
    trial = attack_with(Stadv(params), still, IMAGES, labels=labels, **FREE)
    assert int(trial.found.queries.max()) <= 12
    assert not any(trial.broken)


def test_a_target_is_reached(attack_with):
    targets = (LABELS + 1) % 3
    trial = attack_with(Stadv(), MODEL, IMAGES, targets=targets, labels=LABELS, queries=1000, **FREE)
    assert sum(trial.broken) >= 5
    found = trial.found.found
    assert torch.equal(MODEL.predict(trial.found.images[found]).argmax(1), targets[found])


@pytest.mark.parametrize("grid", Grid)
def test_it_breaks_a_trained_network_as_the_paper_says(grid, attack_with):
    """99.95 % and more on the paper's three MNIST networks (table 1); here a network of 8 x 8 digits."""
    plugins = registry()
    model, data = plugins.create("models", "digits-cnn"), plugins.create("datasets", "digits")
    samples = data.read(range(12))
    right = model.predict(samples.images).argmax(1) == samples.labels
    images, labels = samples.images[right], samples.labels[right]
    trial = attack_with(Stadv(), model, images, labels=labels, **{**FREE, "grid": grid})
    assert all(trial.broken)
