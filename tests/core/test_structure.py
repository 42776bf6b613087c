"""SSIM and its slope, against torchmetrics, against the metric and against closed forms."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim

from charpy.errors import DataError
from charpy.plugins import registry
from charpy.structure import Structure, fitting

SHAPES = [(1, 8, 8), (3, 13, 9), (1, 28, 28), (3, 32, 32)]
SPREADS = [0.003, 0.1, 1.0]


def pairs(shape: tuple[int, ...], spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, a ramp, black, white and grey images, each with noise of this size on it, inside the box."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(5, *shape, generator=generator)
    images[1] = torch.linspace(0, 1, shape[-1])
    images[2], images[3], images[4] = 0, 1, 0.3
    return images, (images + spread * torch.randn(images.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_metric_and_torchmetrics_and_so_is_its_slope(shape, spread):
    images, perturbed = pairs(shape, spread)
    ours, slope = Structure(images).slope(perturbed)
    exact = perturbed.double().requires_grad_(True)
    metric = registry().create("metrics", "ssim")(images.double(), exact)
    torch.testing.assert_close(ours, metric.detach().float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(Structure(images).similarity(perturbed), ours, atol=0, rtol=0)
    window = fitting(11, images)
    _, everywhere = torchmetrics_ssim(
        exact, images.double(), sigma=1.5 * window / 11, data_range=1.0, reduction="none", return_full_image=True
    )
    edge = window // 2
    theirs = everywhere[..., edge : shape[1] - edge, edge : shape[2] - edge].mean((1, 2, 3))
    torch.testing.assert_close(ours, theirs.detach().float(), atol=1e-6, rtol=0)
    (expected,) = torch.autograd.grad(theirs.sum(), exact)
    for mine, true in zip(slope, expected.float(), strict=True):
        assert float((mine - true).abs().max()) <= 1e-4 * float(true.abs().max())


@pytest.mark.parametrize("grey", [0.0, 0.25, 1.0])
def test_flat_images_differ_in_luminance_alone(grey):
    images, shift = torch.full((1, 3, 16, 16), grey), 0.1 if grey < 0.5 else -0.1
    other = grey + shift
    expected = (2 * grey * other + 1e-4) / (grey**2 + other**2 + 1e-4)
    similarity, slope = Structure(images).slope(images + shift)
    assert float(similarity) == pytest.approx(expected, abs=1e-5)
    numerator, denominator = 2 * grey * other + 1e-4, grey**2 + other**2 + 1e-4
    change = 2 * grey / denominator - 2 * other * numerator / denominator**2  # of eq. 13's first factor
    assert float(slope.sum()) == pytest.approx(change, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_is_exactly_like_itself_and_there_the_slope_is_zero(shape):
    images, _ = pairs(shape, 0.0)
    similarity, slope = Structure(images).slope(images)
    assert (similarity == 1).all()
    assert not slope.any()


def test_negatives_are_unlike():
    images = (torch.arange(16)[:, None] + torch.arange(16) & 1).float().expand(1, 1, 16, 16)
    similarity, slope = Structure(images).slope(1 - images)
    assert float(similarity) < -0.99
    assert bool(slope.isfinite().all())


def test_some_rows_of_it_are_those_of_the_images():
    images, perturbed = pairs((3, 13, 9), 0.1)
    similarity, slope = Structure(images).slope(perturbed)
    sample = torch.tensor([3, 0, 3])
    some = Structure(images).rows(sample).slope(perturbed[sample])
    assert torch.equal(some[0], similarity[sample])
    assert torch.equal(some[1], slope[sample])


def test_the_window_matters_and_fits():
    images, perturbed = pairs((1, 8, 8), 0.3)
    assert [Structure(images, window).window for window in (3, 7, 11, 43)] == [3, 7, 7, 7]
    assert not torch.equal(Structure(images, 3).similarity(perturbed), Structure(images).similarity(perturbed))
    with pytest.raises(DataError, match="too small"):
        Structure(torch.zeros(1, 1, 2, 9))
