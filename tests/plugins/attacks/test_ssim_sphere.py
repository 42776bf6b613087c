"""Gradient steps on a sphere: its distance, its starts of high and low SSIM, and what each step does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from charpy.geometry import norm_of, onto_sphere
from charpy.interfaces.attack import Attack
from charpy.plugins import registry
from charpy.structure import Structure
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm

MODES = ["imperceptible", "perceptible"]


def made(**params: object) -> Attack:
    attack: Attack = registry().create("attacks", "ssim_sphere", params)
    return attack


def held(*shape: int) -> tuple[LinearClassifier, torch.Tensor]:
    """A model that no small change breaks, and noisy, black, white, grey and black-and-white images."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, *shape, generator=generator) / 9
    images = torch.rand(6, *shape, generator=generator).mul(255).round().div(255)
    images[2], images[3], images[4] = 0, 1, 0.2
    images[5] = images[5].round()
    return LinearClassifier(weight, torch.tensor([999.0, 0, 0])), images


@pytest.mark.parametrize("radius", [0.02, 1.0, 3.9])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 15)])
def test_every_image_is_at_the_distance_and_in_the_box(shape, mode, radius, attack_with):
    model, images = held(*shape)
    trial = attack_with(made(mode=mode, steps=5), model, images, norm=Norm.L2, radius=radius, grid=Grid.NONE)
    assert trial.found.queries.tolist() == [6] * 6, "the start costs no query"
    for asked in trial.course:
        assert norm_of(Norm.L2, asked - images).tolist() == pytest.approx([radius] * 6, rel=1e-5, abs=1e-6)
        assert float(asked.min()) >= 0
        assert float(asked.max()) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_on_the_grid_a_witness_is_at_the_distance_or_a_little_nearer(mode, attack_with):
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(2, 3, 12, 12, generator=generator)
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    images = torch.rand(8, 3, 12, 12, generator=generator).mul(0.1).add(0.45).mul(255).round().div(255)
    found = attack_with(made(mode=mode), model, images, norm=Norm.L2, radius=1.0).found
    assert bool(found.found.all())
    distance = norm_of(Norm.L2, found.images.float() / 255 - images)
    assert float(distance.max()) <= 1 + 1e-6
    assert float(distance.min()) >= 0.98


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 20)])
def test_the_starts_have_more_and_less_ssim_than_noise_at_their_distance(shape, attack_with):
    model, images = held(*shape)
    starts = {}
    for mode, count in ((MODES[0], 50), (MODES[0], 0), (MODES[1], 50)):
        attack = made(mode=mode, start_steps=count, steps=1)
        course = attack_with(attack, model, images, norm=Norm.L2, radius=1.5, grid=Grid.NONE).course
        starts[mode, count] = Structure(images).similarity(course[0])
    noise = 1 - starts[MODES[0], 0]
    assert bool((1 - starts[MODES[0], 50] < 0.5 * noise).all()), starts
    assert bool((1 - starts[MODES[1], 50] > noise).all()), starts
    textured = [0, 1, 5]  # on a flat image noise is nearly unlike already
    assert bool((1 - starts[MODES[1], 50] > 1.5 * noise)[textured].all()), starts


def test_a_step_follows_the_models_gradient_and_returns_to_the_sphere(attack_with):
    """With two classes the gradient of the log-odds is w_0 - w_1 everywhere."""
    generator = torch.Generator().manual_seed(5)
    model = LinearClassifier(torch.randn(2, 1, 9, 9, generator=generator) / 5, torch.tensor([50.0, 0.0]))
    images = torch.rand(4, 1, 9, 9, generator=generator)
    attack = made(steps=6, step=0.3)
    course = attack_with(attack, model, images, norm=Norm.L2, radius=0.7, grid=Grid.NONE).course
    slope = model.weight[0] - model.weight[1]
    for here, there in pairwise(course):
        expected = onto_sphere(images, here - 0.3 * 0.7 * slope / slope.norm(), 0.7)
        torch.testing.assert_close(there, expected, atol=1e-5, rtol=0)


def test_a_sphere_beyond_the_optimum_is_enough(attack_with):
    """It ends where PGD does, at the image of the ball that a linear model likes least."""
    generator = torch.Generator().manual_seed(6)
    weight = torch.randn(2, 3, 10, 10, generator=generator)
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))
    images = 0.5 + 0.05 * torch.randn(12, 3, 10, 10, generator=generator)
    labels = model.predict(images).argmax(1)
    optimum = model.smallest(Norm.L2, images, labels)
    for place in range(0, 12, 3):
        fields = {"norm": Norm.L2, "labels": labels[place, None], "grid": Grid.NONE}
        for share, broken in ((1.02, True), (0.98, False)):
            radius = share * float(optimum[place])
            for mode in MODES:
                trial = attack_with(made(mode=mode), model, images[place, None], radius=radius, **fields)
                assert trial.broken == [broken]


@pytest.mark.parametrize(
    "params",
    [
        {"mode": "perceptible"},
        {"step": 0.05},
        {"steps": 5},
        {"start_steps": 3},
        {"start_step": 0.1},
        {"restarts": 2},
        {"loss": "margin"},
        {"window": 5},
    ],
)
def test_every_parameter_has_an_effect(params, attack_with):
    model, images = held(3, 16, 16)
    fields = {"norm": Norm.L2, "radius": 1.0, "grid": Grid.NONE}
    one = attack_with(made(**{"steps": 3}), model, images, **fields).course
    other = attack_with(made(**{"steps": 3, **params}), model, images, **fields).course
    assert one.shape != other.shape or not torch.equal(one, other)


def test_the_seed_decides(attack_with):
    model, images = held(1, 9, 9)
    fields = {"norm": Norm.L2, "radius": 1.0}
    one, again, other = (attack_with(made(steps=3), model, images, seed=seed, **fields).course for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def nearness(attack_with, model: str, data: str, count: int, radius: float, reference: object) -> None:
    """Sharif et al. 2018, 4.4: at one distance, both modes fool the model, and one looks less like the original."""
    network = registry().create("models", model)
    samples = registry().create("datasets", data, reference).read(range(count))
    right = network.predict(samples.images).argmax(1) == samples.labels
    images, labels = samples.images[right], samples.labels[right]
    fields = {"norm": Norm.L2, "radius": radius, "labels": labels}
    found = {mode: attack_with(made(mode=mode), network, images, **fields).found for mode in MODES}
    similarity = {mode: Structure(images).similarity(found[mode].images.float() / 255) for mode in MODES}
    both = found["imperceptible"].found & found["perceptible"].found
    lower = (similarity["perceptible"] < similarity["imperceptible"])[both]
    assert len(lower) >= 0.9 * len(labels)
    assert float(lower.float().mean()) >= 0.95


def test_nearness_in_l2_is_no_likeness(attack_with):
    nearness(attack_with, "digits-cnn", "digits", 60, 1.0, {})


@pytest.mark.data
@pytest.mark.parametrize(("model", "data", "radius"), [("mnist-lenet", "mnist", 2.0), ("cifar10-cnn", "cifar10", 6.0)])
def test_nearness_in_l2_is_no_likeness_in_real_images(model, data, radius, data_dir: Path, attack_with):
    nearness(attack_with, model, data, 30, radius, {"download": False, "data_dir": str(data_dir)})
