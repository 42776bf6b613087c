"""Shifts of colour and light: the standard library's HSV, Pillow's contrast, the bounds, and what the search finds."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.unrestricted import color_shift
from charpy_plugins.attacks.unrestricted.color_shift import ColorShift, shifted

GENERATOR = torch.Generator().manual_seed(2)
IMAGES = torch.rand(8, 3, 6, 5, generator=GENERATOR).mul(255).round().div(255)
GREY = torch.rand(8, 1, 8, 8, generator=GENERATOR)
FREE = {"norm": Norm.UNRESTRICTED, "radius": 1.0}
BOUNDS = ("brightness", "contrast", "gamma", "hue", "saturation")


def classifier(shape=(3, 6, 5)):
    weight = torch.randn(4, *shape, generator=torch.Generator().manual_seed(6))
    return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))


@pytest.fixture
def tried(monkeypatch):
    """Every shift that is tried, call by call."""
    shifts = []

    def noted(images, shift):
        shifts.append(shift.clone())
        return shifted(images, shift)

    monkeypatch.setattr(color_shift, "shifted", noted)
    return shifts


def by(count, **given):
    return torch.tensor([[given.get(name, 0.0) for name in BOUNDS]]).repeat(count, 1)


@pytest.mark.parametrize("images", [IMAGES, GREY, torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), IMAGES[:, :2]])
def test_no_shift_is_the_image_itself(images):
    count = 5 if images.shape[1] == 3 else 3
    assert torch.allclose(shifted(images, torch.zeros(len(images), count)), images, atol=1e-6)


@pytest.mark.parametrize(("hue", "saturation"), [(0.0, 0.3), (0.2, 0.0), (-0.45, -0.6), (0.5, 1.0), (0.1, -1.0)])
def test_hue_and_saturation_are_those_of_the_standard_library(hue, saturation):
    images = IMAGES.clone()
    images[0, :, 0] = torch.tensor([[0.0, 1, 0.4, 0.4, 0], [0, 1, 0.4, 0.2, 1], [0, 1, 0.4, 0.4, 0]])  # grey, black
    found = shifted(images, by(8, hue=hue, saturation=saturation))
    for row, y, x in np.ndindex(8, 6, 5):
        h, s, v = colorsys.rgb_to_hsv(*images[row, :, y, x].tolist())
        wanted = colorsys.hsv_to_rgb((h + hue) % 1, min(max(s + saturation, 0), 1), v)
        np.testing.assert_allclose(found[row, :, y, x].numpy(), wanted, atol=2e-6)


def test_contrast_is_pillows():
    pixels = GREY[0, 0].mul(255).round().byte()
    factor = ImageEnhance.Contrast(Image.fromarray(pixels.numpy())).enhance(1.4)
    found = shifted(pixels[None, None] / 255, torch.tensor([[0.0, 0.4, 0.0]]))[0, 0] * 255
    assert float((found - torch.tensor(np.array(factor))).abs().max()) < 1.5  # Pillow rounds the mean and the values


def test_brightness_is_added_and_gamma_is_an_exponent():
    found = shifted(GREY, torch.tensor([[0.25, 0.0, 0.0]]).repeat(8, 1))
    assert torch.allclose(found, (GREY + 0.25).clamp(0, 1), atol=1e-6)
    found = shifted(GREY, torch.tensor([[0.0, 0.0, 0.5]]).repeat(8, 1))
    assert torch.allclose(found, GREY ** float(np.exp(0.5)), atol=1e-6)


@pytest.mark.parametrize("grid", Grid)
def test_every_witness_is_a_shift_within_the_bounds(grid, tried, attack_with):
    params = ColorShift.Params(brightness=0.1, contrast=0.2, gamma=0.3, hue=0.25, saturation=0.4, steps=60)
    trial = attack_with(ColorShift(params), classifier(), IMAGES, grid=grid, **FREE)
    assert any(trial.broken)
    shifts = torch.stack(tried)
    assert shifts.shape == (60, 8, 5)
    largest = shifts.abs().amax((0, 1))
    bounds = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.4])
    assert bool((largest <= bounds + 1e-6).all())
    assert bool((largest > 0.9 * bounds).all()), "all of the range is used"
    for row in trial.found.found.nonzero()[:, 0].tolist():
        images = shifted(IMAGES[row : row + 1].repeat(60, 1, 1, 1), shifts[:, row])
        images = images.mul(255).round() if grid is Grid.EIGHT_BIT else images
        assert float((images - trial.found.images[row]).flatten(1).abs().amax(1).min()) < 1e-5


def test_a_grey_image_has_neither_hue_nor_saturation(tried, attack_with):
    trial = attack_with(ColorShift(ColorShift.Params(steps=20)), classifier((1, 8, 8)), GREY, **FREE)
    assert {shift.shape for shift in tried} == {(8, 3)}
    assert trial.found.queries.tolist() == [20] * 8


def test_finds_the_least_brightness_that_a_sum_needs(attack_with):
    """Scores that count the light: with the brightness alone, the nearest success is known."""
    images = torch.full((4, 1, 4, 4), 0.3) + torch.tensor([0.0, 0.02, 0.05, 0.08])[:, None, None, None]
    model = LinearClassifier(torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]), torch.tensor([0.0, -16 * 0.45]))
    params = ColorShift.Params(brightness=0.2, contrast=0, gamma=0)
    trial = attack_with(ColorShift(params), model, images, grid=Grid.NONE, **FREE)
    needed = 0.45 - images[:, 0, 0, 0]
    found = trial.found.images[:, 0, 0, 0] - images[:, 0, 0, 0]
    assert all(trial.broken)
    assert torch.allclose(found, needed, atol=2e-3)
    small = ColorShift(ColorShift.Params(brightness=0.1, contrast=0, gamma=0))
    assert attack_with(small, model, images, **FREE).broken == [False, False, True, True]


def test_the_search_beats_as_many_random_shifts(attack_with):
    """On real margins: of the same number of rows, random ones succeed as often at most, and farther away."""
    model, steps = classifier(), 150
    labels = model.predict(IMAGES).argmax(1)
    shares = torch.rand(steps, 8, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    bounds = torch.tensor([0.2, 0.4, 0.5, 0.5, 1.0])
    images = torch.stack([shifted(IMAGES, share * bounds) for share in shares])
    hit = model.predict(images.flatten(0, 1)).argmax(1).view(steps, 8) != labels
    nearest = torch.where(hit, (images - IMAGES).flatten(2).norm(dim=2), torch.inf).amin(0)
    trial = attack_with(ColorShift(ColorShift.Params(steps=steps)), model, IMAGES, grid=Grid.NONE, **FREE)
    assert trial.found.found.sum() >= nearest.isfinite().sum() >= 4
    both = trial.found.found & nearest.isfinite()
    found = (trial.found.images - IMAGES).flatten(1).norm(dim=1)
    assert float(found[both].mean()) < 0.8 * float(nearest[both].mean())


@pytest.mark.parametrize("changed", [*({name: 0.0} for name in BOUNDS), {"steps": 40}])
def test_every_parameter_changes_the_result(changed, attack_with):
    usual, other = (
        attack_with(ColorShift(ColorShift.Params(**{"steps": 60, **given})), classifier(), IMAGES, **FREE).found.images
        for given in ({}, changed)
    )
    assert not torch.equal(usual, other)


def test_the_seed_decides(attack_with):
    first, same, other = (
        attack_with(ColorShift(ColorShift.Params(steps=40)), classifier(), IMAGES, seed=seed, **FREE).found.images
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
