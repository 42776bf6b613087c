"""The magnification metric: its formula, what it must not see, and that a smooth change is seen less."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from charpy.errors import DataError, SpecError
from charpy.interfaces.metric import Direction
from charpy.magnification import magnified
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.metrics.magnification import Magnification


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_root_mean_square_of_the_difference() -> None:
    images, perturbed = drawn(2, 3, 3, 8, 9)
    found = Magnification()(images, perturbed)
    gap = magnified(images).numpy().astype(float) - magnified(perturbed).numpy().astype(float)
    assert found.shape == (3,)
    assert found.tolist() == pytest.approx(np.sqrt((gap**2).mean((1, 2, 3))).tolist(), rel=1e-5)


def test_equal_images_have_0_and_it_is_symmetric() -> None:
    images, perturbed = drawn(2, 3, 1, 8, 8)
    metric = Magnification()
    assert torch.equal(metric(images, images), torch.zeros(3))
    assert torch.equal(metric(images, perturbed), metric(perturbed, images))
    assert (metric(images, perturbed) > 0.1).all()
    flat = torch.full((1, 1, 8, 8), 0.5)
    assert metric(flat, flat + 0.25).item() == 0  # brightness alone is not seen
    assert metric(images * 0.9, images * 0.9 + 0.05).max() < 1e-5


def test_the_same_l2_is_seen_more_the_rougher_it_is() -> None:
    images = torch.from_numpy(ndimage.gaussian_filter(drawn(4, 1, 28, 28).numpy(), (0, 0, 3, 3)) * 2 - 0.5)
    noise, metric = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1)), Magnification()
    seen = []
    for sigma in (0.0, 1.0, 3.0):
        change = torch.from_numpy(ndimage.gaussian_filter(noise.numpy(), (0, 0, sigma, sigma)))
        change *= 0.3 / change.flatten(1).norm(dim=1)[:, None, None, None]
        seen.append(metric(images, images + change))
    assert (seen[0] > seen[1]).all()
    assert (seen[1] > seen[2]).all()


def test_a_change_on_a_flat_area_is_seen_more_than_on_a_rough_one() -> None:
    image = torch.full((1, 1, 24, 48), 0.5)
    image[..., 24:] += 0.3 * (drawn(1, 1, 24, 24) - 0.5)
    change = 0.02 * (drawn(1, 1, 24, 16, seed=2) - 0.5)
    flat, rough = image.clone(), image.clone()
    flat[..., 4:20] += change
    rough[..., 28:44] += change
    assert Magnification()(image, flat).item() > 1.5 * Magnification()(image, rough).item()


def test_it_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    metric = registry().create("metrics", "magnification", {"sigma_colour": 0.2})
    assert isinstance(metric, Magnification)
    assert (metric.direction, metric.range) == (Direction.DISTANCE, (0, math.inf))
    assert metric.unit == "local standard deviations"
    images, perturbed = drawn(2, 1, 3, 8, 8)
    for changed in ({"beta": 0.2}, {"sigma_space": 1.0}, {"sigma_colour": 0.2}):
        other = Magnification(Magnification.Params.model_validate(changed))
        assert other(images, perturbed).item() != Magnification()(images, perturbed).item(), changed
    for wrong in ({"beta": 1.1}, {"sigma_space": 0}, {"sigma_colour": -1}, {"sigma": 5}):
        with pytest.raises(SpecError):
            parse(Magnification.Params, wrong)
    with pytest.raises(DataError, match="pairs of images"):
        metric(images, perturbed[:, :1])
    assert not Magnification()(images, perturbed * float("nan")).isfinite().any()


def test_its_gradient_is_finite_also_between_equals() -> None:
    images = drawn(1, 1, 8, 8)
    for other in (images, drawn(1, 1, 8, 8, seed=1)):
        perturbed = other.clone().requires_grad_()
        Magnification()(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
        assert perturbed.grad is not None
        assert perturbed.grad.isfinite().all()
