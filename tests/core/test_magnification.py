"""Adversarial magnification against its definition in numpy, scipy's Gaussian, and what must hold for every image."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from charpy import magnification
from charpy.magnification import magnified


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(image, beta, sigma_space, sigma_colour):
    """Equation 22 of one image `(C, H, W)`, pixel by pixel in float64."""
    reach = math.ceil(3 * sigma_space)
    channels, height, width = image.shape

    def mirrored(array):
        return np.pad(array, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")

    guide = mirrored(image)

    def filtered(values):
        padded, found = mirrored(values), np.empty_like(values)
        for row, column in itertools.product(range(height), range(width)):
            total, mean = 0.0, np.zeros(channels)
            for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
                place = (slice(None), row + reach + dy, column + reach + dx)
                colour = np.linalg.norm(guide[place] - image[:, row, column])
                weight = np.exp(-(dy**2 + dx**2) / (2 * sigma_space**2)) * np.exp(-(colour**2) / (2 * sigma_colour**2))
                total, mean = total + weight, mean + weight * padded[place]
            found[:, row, column] = mean / total
        return found

    excess = image - filtered(image)
    overall = np.sqrt(((image - image.mean((1, 2), keepdims=True)) ** 2).mean((1, 2), keepdims=True))
    return excess / (beta * np.sqrt(filtered(excess**2)) + (1 - beta) * overall)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("beta", "sigma_space", "sigma_colour"), [(0.8, 1.0, 0.2), (0.3, 1.5, 5.0), (0.0, 0.7, 0.05)])
def test_it_is_its_definition(channels, beta, sigma_space, sigma_colour):
    images = drawn(2, channels, 6, 5)
    found = magnified(images, beta=beta, sigma_space=sigma_space, sigma_colour=sigma_colour)
    for image, own in zip(images.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(own, by_definition(image, beta, sigma_space, sigma_colour), rtol=1e-9, atol=1e-12)


def test_the_defaults_are_the_papers():
    image = drawn(1, 3, 4, 5)
    np.testing.assert_allclose(magnified(image)[0].numpy(), by_definition(image[0].numpy(), 0.8, 5.0, 5.0), rtol=1e-9)


def test_where_colours_do_not_count_it_is_a_gaussian_normalisation():
    image = drawn(1, 1, 20, 24)

    def smooth(values):
        return ndimage.gaussian_filter(values, 2.0, mode="reflect", truncate=3.0)

    pixels = image[0, 0].numpy()
    excess = pixels - smooth(pixels)
    expected = excess / (0.8 * np.sqrt(smooth(excess**2)) + 0.2 * pixels.std())
    np.testing.assert_allclose(magnified(image, sigma_space=2.0, sigma_colour=1e6)[0, 0].numpy(), expected, rtol=1e-9)


def test_brightness_does_not_count_and_contrast_only_against_the_weights():
    images = drawn(2, 3, 9, 8)
    found = magnified(images, sigma_space=1.0, sigma_colour=0.2)
    brighter = magnified(images + 0.3, sigma_space=1.0, sigma_colour=0.2)
    torch.testing.assert_close(brighter, found, rtol=1e-9, atol=1e-10)
    fainter = magnified(images * 0.1, sigma_space=1.0, sigma_colour=0.02)
    torch.testing.assert_close(fainter, found, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(magnified(images * 0.1, sigma_space=1.0, sigma_colour=0.2), found)
    torch.testing.assert_close(magnified(1 - images, sigma_space=1.0, sigma_colour=0.2), -found, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_flat_image_is_0_and_so_is_a_flat_channel(value, channels):
    flat = torch.full((2, channels, 12, 9), value)
    assert torch.equal(magnified(flat), torch.zeros_like(flat))
    if channels == 3:
        flat[:, 1] = drawn(2, 12, 9).float()
        found = magnified(flat)
        assert torch.equal(found[:, [0, 2]], torch.zeros(2, 2, 12, 9))
        assert found[:, 1].abs().max() > 0.5


def test_nan_is_not_taken_for_flat():
    image = drawn(2, 1, 6, 6)
    image[1, 0, 3, 3] = float("nan")
    found = magnified(image, sigma_space=1.0)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()  # by the deviation over the whole image


def test_a_faint_pattern_on_a_smooth_ramp_is_magnified():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).double()
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2 - 1
    change = 2 / 255 * checks
    seen = magnified(ramp + change) - magnified(ramp)
    middle = (seen[0, 0] * checks)[8:-8, 8:-8]
    assert middle.min() > 3 * 2 / 255 / float(ramp.std())  # three times its share of the image's own deviation
    assert (
        magnified(ramp)[..., 8:-8].abs().max() < 0.1 * magnified(ramp).abs().max()
    )  # the ramp's middle is no contrast


def test_memory_is_bounded_without_a_trace_in_the_result(monkeypatch):
    images = drawn(5, 3, 7, 6).float()
    whole = magnified(images, sigma_space=1.0)
    monkeypatch.setattr(magnification, "VALUES", 3 * 7 * 6 * 2 + 5)
    assert torch.equal(magnified(images, sigma_space=1.0), whole)
    monkeypatch.setattr(magnification, "VALUES", 1)
    assert torch.equal(magnified(images, sigma_space=1.0), whole)
    assert magnified(images[:0]).shape == (0, 3, 7, 6)


def test_every_parameter_has_an_effect():
    images = drawn(1, 1, 8, 8)
    found = magnified(images)
    for changed in ({"beta": 0.5}, {"sigma_space": 2.0}, {"sigma_colour": 0.1}):
        assert not torch.allclose(magnified(images, **changed), found), changed


def test_gradients_are_autograds_and_finite_on_flat_images():
    images = drawn(1, 2, 4, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: magnified(x, sigma_space=0.5, sigma_colour=0.3), images)
    flat = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    slope = torch.autograd.grad(magnified(flat, sigma_space=0.5).sum(), flat)[0]
    assert slope.isfinite().all()
