"""The smooth attacks: what they follow, and what their perturbations look like."""

from __future__ import annotations

import pytest
import torch

from charpy.plugins import registry
from charpy.search.long_steps import Clip
from charpy.smoothing import Smoother
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm


def problem() -> tuple[LinearClassifier, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 1, 6, 6, generator=generator)
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    return model, 0.5 + 0.02 * torch.randn(4, 1, 6, 6, generator=generator)


@pytest.mark.parametrize("clip", list(Clip))
def test_one_step_of_spgd2_is_along_the_smoothed_gradient(clip, attack_with):
    model, images = problem()
    labels = model.predict(images).argmax(1)
    radius = 1.0
    params = {"steps": 1, "step": 1.0, "loss": "margin", "alpha": 0.9, "clip": clip.value}
    attack = registry().create("attacks", "spgd2", params)
    trial = attack_with(attack, model, images, norm=Norm.L2, radius=radius, queries=10, grid=Grid.NONE)
    assert all(trial.broken)
    gradient = model.weight[labels] - model.weight[1 - labels]
    smooth = Smoother(images, 0.9)(gradient)
    unit = smooth / smooth.flatten(1).norm(dim=1)[:, None, None, None]
    assert ((images - radius * unit) > 0).all(), "no value is clipped"
    torch.testing.assert_close(trial.found.images, images - radius * unit, atol=1e-5, rtol=1e-5)
    plain = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    assert (unit - plain).abs().max() > 0.05, "smoothing matters here"


def test_the_constraint_gives_smoother_perturbations_than_none(attack_with):
    model, images = problem()
    rough = {}
    for alpha in (0.0, 0.95):
        attack = registry().create("attacks", "scw", {"alpha": alpha, "steps": 40, "line_search": 0})
        trial = attack_with(attack, model, images, norm=Norm.L2, radius=6.0, queries=210, grid=Grid.NONE)
        assert all(trial.broken)
        moved = trial.found.images - images
        rough[alpha] = Smoother(images, 0.9).roughness(moved) / moved.square().flatten(1).sum(1)
    assert (rough[0.95] < rough[0.0]).all(), rough


def test_rescaling_shortens_and_then_clips():
    images = torch.full((1, 1, 1, 2), 0.5)
    moved = torch.tensor([[[[1.7, 0.5 + 0.9]]]])
    scaled, nearest = (clip.back(images, moved, 0.6) for clip in (Clip.RESCALE, Clip.NEAREST))
    # (1.2, 0.9) has length 1.5: scaled to 0.6 it is (0.48, 0.36), inside the box.
    torch.testing.assert_close(scaled, images + torch.tensor([[[[0.48, 0.36]]]]))
    torch.testing.assert_close(nearest, scaled)
    far = Clip.RESCALE.back(images, moved, 1.0)  # (0.8, 0.6), which the box cuts to (0.5, 0.5)
    torch.testing.assert_close(far, torch.ones_like(images))
