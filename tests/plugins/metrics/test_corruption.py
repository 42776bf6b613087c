"""fourier, edges and gradients against numpy and scipy, on real images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_sample_image

from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Direction, Metric
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist
from charpy_plugins.metrics.edges import Edges
from charpy_plugins.metrics.fourier import Fourier
from charpy_plugins.metrics.gradients import Gradients

Pair = tuple[torch.Tensor, torch.Tensor]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def changed(images: torch.Tensor) -> Pair:
    """Pairs on the grid of 8 bits: with noise, and with another image."""
    noise = 0.4 * (drawn(*images.shape) - 0.5)
    others = torch.cat([(images + noise).clamp(0, 1), images.roll(1, 0)])
    return torch.cat([images] * 2), (others * 255).round() / 255


def photographs() -> Pair:
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1) / 255
    return changed(torch.stack([photo[:, 100:140, 200:261], photo[:, -40:, -61:]]))


def true_fourier(x: np.ndarray, y: np.ndarray) -> float:
    """The transform as a product with the matrices of its definition."""
    rows, columns = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / math.sqrt(n) for n in x.shape[1:])
    gap = [
        np.log(1 + np.abs(rows @ b @ columns)) - np.log(1 + np.abs(rows @ a @ columns))
        for a, b in zip(x, y, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(gap))))


def true_edges(x: np.ndarray, y: np.ndarray, threshold: float = 0.25) -> float:
    def edges(image: np.ndarray) -> set[tuple[int, int]]:
        found = set()
        for channel in image:
            steps = [ndimage.sobel(channel, axis, mode="nearest") / 4 for axis in (0, 1)]
            found |= {(int(i), int(j)) for i, j in np.argwhere(np.hypot(*steps) > threshold)}
        return found

    before, after = edges(x), edges(y)
    return 1 - len(before & after) / len(before | after)


def true_gradients(x: np.ndarray, y: np.ndarray) -> float:
    parts = [np.subtract(np.gradient(y, axis=axis), np.gradient(x, axis=axis)) for axis in (1, 2)]
    return float(np.sqrt(np.mean(parts[0] ** 2 + parts[1] ** 2)))


TRUTH = {Fourier: true_fourier, Edges: true_edges, Gradients: true_gradients}


def gap(kind: type[Metric], pair: Pair) -> float:
    """The largest difference of the metric to its truth."""
    found = kind()(*pair)
    expected = [TRUTH[kind](x, y) for x, y in zip(*(part.double().numpy() for part in pair), strict=True)]  # type: ignore[type-abstract]
    assert found.shape == (len(pair[0]),)
    assert found.dtype == torch.float32
    assert max(expected) - min(expected) > 0.01  # the pairs tell something apart
    return max(abs(a - b) for a, b in zip(found.tolist(), expected, strict=True))


@pytest.mark.parametrize("kind", TRUTH)
def test_each_agrees_with_its_definition(kind: type[Metric]) -> None:
    assert gap(kind, changed(Digits().read(range(8)).images)) < 1e-6
    assert gap(kind, photographs()) < 1e-6


@pytest.mark.data
@pytest.mark.parametrize("data", [Mnist, Cifar10])
def test_real_data(data: type[Dataset], data_dir: Path) -> None:
    opened = data(data.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    for kind in TRUTH:
        assert gap(kind, changed(opened.read(range(8)).images)) < 1e-6


@pytest.mark.parametrize("kind", TRUTH)
def test_equal_images_have_0_and_the_order_does_not_count(kind: type[Metric]) -> None:
    images, perturbed = changed(Digits().read(range(8)).images)
    assert kind()(images, images.clone()).tolist() == [0] * 16
    assert (kind()(images, perturbed) > 0).all()
    assert torch.equal(kind()(images, perturbed), kind()(perturbed, images))


@pytest.mark.parametrize("kind", TRUTH)
def test_nan_never_scores_and_stays_in_its_image(kind: type[Metric]) -> None:
    images, perturbed = changed(Digits().read(range(3)).images)
    clean = kind()(images[:3], perturbed[:3])
    for first in (False, True):
        pair = [images[:3].clone(), perturbed[:3].clone()]
        pair[first][1, 0, 0, 0] = float("nan")
        found = kind()(*pair)
        assert found.isnan().tolist() == [False, True, False]
        assert torch.equal(found[::2], clean[::2])


@pytest.mark.parametrize("kind", [Fourier, Gradients])
def test_gradients_are_those_of_finite_differences(kind: type[Metric]) -> None:
    pair = [drawn(2, 2, 6, 5, seed=seed).double().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(kind(), pair)
    perturbed = pair[0].detach().clone().requires_grad_()
    kind()(pair[0].detach(), perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    assert perturbed.grad.isfinite().all()


def test_what_each_does_not_see() -> None:
    image = drawn(1, 3, 8, 8) * 0.5
    moved = image.roll((3, 2), (2, 3))
    assert Fourier()(image, moved).item() < 1e-6 < 0.05 < Gradients()(image, moved).item()
    assert Gradients()(image, image + 0.25).item() < 1e-6 < 0.05 < Fourier()(image, image + 0.25).item()
    assert Edges()(image * 0.1, image * 0.1 + 0.1).item() == 0  # neither has an edge
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    assert Edges()(step, step * 0.3).item() == 0  # the two columns beside the step, in both
    assert Edges()(step, step * 0.2).item() == 1  # in one only
    assert Edges()(step, step.roll(1, 3)).item() == pytest.approx(1 - 1 / 5)  # {3, 4} and {4, 5, 0, 1}: by the roll


def test_the_largest_values() -> None:
    ramp = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(1, 1, 2, 2)
    assert Gradients()(ramp, 1 - ramp).item() == pytest.approx(Gradients.range[1])
    assert Gradients.range[1] == pytest.approx(2 * math.sqrt(2))


def test_each_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    for name, kind in (("fourier", Fourier), ("edges", Edges), ("gradients", Gradients)):
        metric = registry().create("metrics", name, {})
        assert isinstance(metric, kind)
        assert (metric.direction, metric.range[0]) == (Direction.DISTANCE, 0)
        with pytest.raises(DataError, match="pairs of images"):
            metric(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(DataError, match="2 x 2 pixels\n  next:     use a metric without neighbours"):
        Gradients()(*[torch.zeros(1, 1, 1, 8)] * 2)
    for wrong in (0, 1, -1):
        with pytest.raises(SpecError):
            parse(Edges.Params, {"threshold": wrong})
