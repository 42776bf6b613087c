"""Matrices of distances against loops over pairs, and against the metrics of the same name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy import pairwise
from charpy.analysis.distances.measure import NORMS
from charpy.errors import DataError, PluginError, SpecError
from charpy.interfaces.metric import Metric
from charpy.pairwise import distance_matrix, metric_matrix
from charpy.plugins import registry
from charpy.threat import BALLS, Norm


def by_loops(norm: Norm, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    found = np.zeros((len(first), len(second)))
    for i, one in enumerate(first.astype(np.float64)):
        for j, other in enumerate(second.astype(np.float64)):
            gap = np.abs(one - other)
            found[i, j] = {
                Norm.L0: (gap != 0).any(axis=0).sum(),
                Norm.L1: gap.sum(),
                Norm.L2: np.sqrt((gap**2).sum()),
                Norm.LINF: gap.max(),
            }[norm]
    return found


def test_a_threat_without_a_ball_has_no_distance():
    with pytest.raises(SpecError, match="l0, l1, l2, linf"):
        distance_matrix(Norm.UNRESTRICTED, pixels(2, 1, 0), pixels(2, 1, 1))


def pixels(count: int, channels: int, seed: int) -> torch.Tensor:
    """Few values, so that pixels agree by chance; one image is black and one white."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 4, (count, channels, 5, 6), generator=generator).mul(85).to(torch.uint8)
    images[0], images[1] = 0, 255
    return images


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("real", [False, True], ids=["8bit", "real"])
def test_it_is_what_loops_find(norm, channels, real, monkeypatch):
    monkeypatch.setattr(pairwise, "PIECE_VALUES", 700)  # several pieces, the last one not full
    first, second = pixels(7, channels, 0), pixels(9, channels, 1)
    if real:
        first, second = first / 255, second / 255
        first[2] += torch.rand(channels, 5, 6, generator=torch.Generator().manual_seed(2)) / 100
    scale = 255 if real and norm is not Norm.L0 else 1
    expected = scale * by_loops(norm, first.numpy(), second.numpy())
    found = distance_matrix(norm, first, second).numpy()
    assert found.dtype == np.float64
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-5)
    if not real and norm is not Norm.L2:
        assert (found == expected).all()


def test_large_images_are_exact_though_float32_is_not():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 256, (3, 3, 180, 180), generator=generator).to(torch.uint8) for _ in range(2))
    expected = by_loops(Norm.L1, first.numpy(), second.numpy())
    assert expected.max() > 1 << 22
    assert (distance_matrix(Norm.L1, first, second).numpy() == expected).all()


@pytest.mark.parametrize("kind", sorted(NORMS))
def test_the_norms_are_the_metrics_of_that_name(kind):
    metric = registry().create("metrics", kind)
    first, second = pixels(5, 3, 0), pixels(6, 3, 1)
    scale = 1 if kind == "l0_pixels" else 255
    found = distance_matrix(NORMS[kind], first, second)
    assert torch.allclose(found, scale * metric_matrix(metric, first, second), rtol=1e-5, atol=1e-4)


class Asymmetric(Metric):
    """How much brighter the second image is: tells originals from the others."""

    unit = "image values"

    def __call__(self, images, perturbed):
        """Signed."""
        return (perturbed - images).flatten(1).sum(1)


def test_any_metric_is_measured_pair_by_pair(monkeypatch):
    monkeypatch.setattr(pairwise, "PIECE_VALUES", 200)
    first, second = pixels(4, 1, 0), pixels(5, 1, 1)
    bright = [images.numpy().astype(float).reshape(len(images), -1).sum(1) / 255 for images in (first, second)]
    found = metric_matrix(Asymmetric(), first, second).numpy()
    assert np.allclose(found, bright[1][None] - bright[0][:, None], atol=1e-4)


class Mean(Asymmetric):
    """One value for all pairs."""

    def __call__(self, images, perturbed):
        """A mean."""
        return super().__call__(images, perturbed).mean()


def test_what_is_refused():
    images = pixels(3, 1, 0)
    with pytest.raises(PluginError, match="one value for each pair"):
        metric_matrix(Mean(), images, images)
    with pytest.raises(DataError, match="too small"):
        metric_matrix(registry().create("metrics", "ssim"), images[..., :2, :2], images[..., :2, :2])
