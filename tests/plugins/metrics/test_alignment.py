"""alignment: known transforms are found again, and a search by brute force in numpy finds nothing better."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize

from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Direction
from charpy.plugins import registry
from charpy.specs import parse
from charpy.warp import affine
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist
from charpy_plugins.metrics.alignment import Alignment
from charpy_plugins.metrics.registration import mean_square

VALUES = ("residual", "rotation", "translation", "scale", "size")


def made(**params: Any) -> Alignment:
    return Alignment(Alignment.Params.model_validate(params))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(count: int, height: int, width: int, channels: int = 1) -> torch.Tensor:
    """Soft blobs, differently in every channel."""
    noise = drawn(count, channels, height, width, seed=9).numpy()
    soft = ndimage.gaussian_filter(noise, (0, 0, height / 12, width / 12))
    low, high = soft.min((1, 2, 3), keepdims=True), soft.max((1, 2, 3), keepdims=True)
    return torch.from_numpy((soft - low) / (high - low))


def unaligned(images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
    return (perturbed - images).square().mean((1, 2, 3)).sqrt()


def moved(
    images: torch.Tensor, rotation: float = 25, shift: float = 0.1, scale: float = 1.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """`images` each moved in its own way, and the `(N, 4)` transforms that move them back."""
    draws = 2 * drawn(len(images), 4, seed=5) - 1
    angle, ratio = draws[:, 0] * rotation, (draws[:, 3] * math.log(scale)).exp()
    down, right = (draws[:, 1:3] * shift * torch.tensor(images.shape[2:])).T
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    back = -torch.stack([angle, (cos * down + sin * right) / ratio, (cos * right - sin * down) / ratio, ratio.log()], 1)
    return affine(images, angle, torch.stack([down, right], 1), ratio), back


def laid(image: np.ndarray, transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image turned, scaled and shifted, and its cover, by scipy."""
    angle, down, right, scale = math.radians(transform[0]), *transform[1:3], math.exp(transform[3])
    middle = (np.array(image.shape[1:]) - 1) / 2
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / scale
    offset = middle - back @ (middle + np.array([down, right]))
    cover = ndimage.affine_transform(np.ones(image.shape[1:]), back, offset, order=1, mode="grid-constant")
    return np.stack([ndimage.affine_transform(part, back, offset, order=1, mode="nearest") for part in image]), cover


def true_residual(x: np.ndarray, y: np.ndarray, transform: np.ndarray) -> float:
    image, cover = laid(y, transform)
    return math.sqrt((cover * (image - x) ** 2).sum() / cover.sum() / len(x)) if cover.mean() >= 0.5 else 1.0


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """The least residual by differential evolution over the default limits, polished by Nelder-Mead."""
    height, width = x.shape[1:]
    bounds = [
        (-30, 30),
        (-0.15 * height, 0.15 * height),
        (-0.15 * width, 0.15 * width),
        (-math.log(1.25), math.log(1.25)),
    ]
    cost = lambda transform: true_residual(x, y, transform)  # noqa: E731
    found = optimize.differential_evolution(cost, bounds, popsize=12, maxiter=50, seed=1, polish=False)
    return float(optimize.minimize(cost, found.x, method="Nelder-Mead", bounds=bounds, options={"maxiter": 400}).fun)


def check(images: torch.Tensor, precision: tuple[float, float, float], left: float) -> None:
    """Transforms are found again to degrees, pixels and percent, and so much of the difference is left."""
    perturbed, back = moved(images)
    found = made().transforms(images, perturbed)
    gap = (found - back).abs()
    degrees, pixels, percent = precision
    assert gap[:, 0].max() < degrees
    assert gap[:, 1:3].max() < pixels
    assert gap[:, 3].max() < percent / 100
    # What is off is not the search: the known transforms, back from pixels that were lost, leave no less.
    least, known = (mean_square(images, perturbed, how.float(), 0.5) for how in (found, back))
    assert (least <= 1.001 * known).all()
    residual = made()(images, perturbed)
    assert (residual < left * unaligned(images, perturbed)).all()
    for value, expected in (
        ("rotation", found[:, 0].abs()),
        ("translation", found[:, 1:3].norm(dim=1)),
        ("scale", 100 * (found[:, 3].abs().exp() - 1)),
    ):
        assert made(value=value)(images, perturbed).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_known_transforms_of_smooth_images_are_found_again() -> None:
    check(smooth(6, 40, 40), (0.5, 0.1, 2), 0.15)
    check(smooth(3, 28, 36, channels=3), (0.5, 0.1, 3), 0.15)


def test_known_transforms_of_images_larger_than_the_coarse_search_are_found_again() -> None:
    check(smooth(2, 96, 80), (0.3, 0.15, 2), 0.15)


@pytest.mark.data
@pytest.mark.parametrize(("data", "precision"), [(Mnist, (1.0, 0.2, 2)), (Cifar10, (1.0, 0.3, 5))])
def test_known_transforms_of_real_images_are_found_again(
    data: type[Dataset], precision: tuple[float, float, float], data_dir: Path
) -> None:
    opened = data(data.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    check(opened.read(range(10)).images, precision, 0.5)


@pytest.mark.data
@pytest.mark.parametrize("data", [Mnist, Cifar10])
def test_brute_force_finds_nothing_clearly_better(data: type[Dataset], data_dir: Path) -> None:
    opened = data(data.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    images = opened.read([3, 8]).images
    noisy = images + 0.1 * (drawn(*images.shape) - 0.5)
    first, second = images[[0, 0, 1]], torch.stack([moved(images)[0][0], images[1], moved(noisy)[0][1]])
    found = made()(first, second).tolist()
    for residual, x, y in zip(found, first.double().numpy(), second.double().numpy(), strict=True):
        assert residual < 1.02 * brute_force(x, y)


def test_the_residual_is_that_of_the_transform_by_another_library() -> None:
    images, perturbed = smooth(3, 20, 24, channels=3), smooth(3, 20, 24, channels=3).roll(1, 0) * 0.8
    perturbed[0] = moved(images[:1])[0][0]
    how = made().transforms(images, perturbed)
    assert (how != 0).any(1).all()
    pairs = zip(images.double().numpy(), perturbed.double().numpy(), how.numpy(), strict=True)
    assert made()(images, perturbed).tolist() == pytest.approx([true_residual(*pair) for pair in pairs], rel=1e-5)


def test_the_residual_is_never_above_the_distance_of_the_images_as_they_are() -> None:
    for images in (Digits().read(range(8)).images, drawn(2, 3, 28, 28), smooth(2, 9, 40)):
        for perturbed in (
            images.roll(1, 0),
            images.flip(-1),
            (images + 0.2 * drawn(*images.shape, seed=1)).clamp(0, 1),
        ):
            found = made()(images, perturbed)
            assert (found <= unaligned(images, perturbed) * (1 + 1e-6)).all()


def test_a_shift_by_whole_pixels_leaves_nothing() -> None:
    images = drawn(4, 3, 32, 32)
    assert (
        made()(images, images.roll((3, -2), (2, 3))).max()
        < 0.02
        < unaligned(images, images.roll((3, -2), (2, 3))).min()
    )
    translation = made(value="translation")(images, images.roll((3, -2), (2, 3)))
    assert translation.tolist() == pytest.approx([math.hypot(3, 2)] * 4, abs=0.02)


def test_equal_images_have_0() -> None:
    for images in (
        drawn(3, 3, 8, 8),
        drawn(2, 1, 28, 28),
        torch.zeros(1, 1, 8, 8),
        drawn(2, 3, 1, 1),
        drawn(1, 1, 1, 9),
    ):
        for value in VALUES:
            assert made(value=value)(images, images.clone()).tolist() == [0] * len(images)
            assert made(value=value)(images[:0], images[:0]).shape == (0,)


def test_no_transform_is_the_answer_where_none_helps() -> None:
    grey, light = torch.full((2, 1, 16, 16), 0.4), torch.full((2, 1, 16, 16), 0.7)
    assert made(value="size")(grey, light).tolist() == [0, 0]
    assert made()(grey, light).tolist() == pytest.approx([0.3, 0.3])
    assert made()(drawn(1, 3, 1, 1), 0 * drawn(1, 3, 1, 1)).item() == pytest.approx(drawn(3).norm().item() / 3**0.5)
    fixed = {"rotation": 0, "translation": 0, "scale": 1}
    images = smooth(3, 20, 20)
    perturbed = moved(images)[0]
    assert made(**fixed)(images, perturbed).tolist() == pytest.approx(unaligned(images, perturbed).tolist(), rel=1e-6)


def test_pixels_from_outside_do_not_count_and_pushing_out_does_not_win() -> None:
    images = smooth(3, 32, 32)
    perturbed = affine(images, torch.zeros(3), torch.tensor([[4.0, 0.0]] * 3))
    assert made()(images, perturbed).max() < 1e-3  # four rows came in black, and are not there any more
    covered: dict[str, Any] = {"overlap": 0.95, "scale": 1, "rotation": 0}
    assert (made(value="translation", **covered)(images, perturbed) <= 0.05 * 32 + 1e-3).all()
    assert (made(**covered)(images, perturbed) > 0.02).all()


@pytest.mark.parametrize(
    ("narrow", "index", "limit"),
    [({"rotation": 5}, 0, 5), ({"translation": 0.02}, 1, 0.64), ({"scale": 1.05}, 3, math.log(1.05))],
    ids=str,
)
def test_every_limit_is_kept(narrow: dict[str, float], index: int, limit: float) -> None:
    images = smooth(4, 32, 32)
    perturbed, back = moved(images)
    assert back[:, index].abs().max() > 1.5 * limit
    found = made(**narrow).transforms(images, perturbed)
    assert found[:, index].abs().max() <= limit * (1 + 1e-5)
    assert (made(**narrow)(images, perturbed) > made()(images, perturbed) - 1e-6).all()
    assert made(**narrow)(images, perturbed).max() > 1.5 * made()(images, perturbed).max()


def test_the_size_is_how_far_the_pixels_move() -> None:
    images = smooth(4, 24, 30)
    perturbed, _ = moved(images)
    rows, columns = np.mgrid[:24, :30].astype(float)
    middle, expected = np.array([11.5, 14.5]), []
    for angle, down, right, scale in made().transforms(images, perturbed).numpy():
        cos, sin = math.exp(scale) * math.cos(math.radians(angle)), math.exp(scale) * math.sin(math.radians(angle))
        y, x = rows - middle[0], columns - middle[1]
        gone = (cos * y - sin * x + down - y) ** 2 + (sin * y + cos * x + right - x) ** 2
        expected.append(math.sqrt(gone.mean()))
    assert min(expected) > 0.5
    assert made(value="size")(images, perturbed).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_residual() -> None:
    images = smooth(2, 8, 9).double()
    perturbed = (moved(images)[0] + 0.1 * drawn(*images.shape).double()).requires_grad_()
    images.requires_grad_()
    how = made().transforms(images, perturbed)
    assert (how != 0).any(1).all()
    held = lambda x, y: made()._residual(x, y, how)  # noqa: E731
    assert torch.autograd.gradcheck(held, (images, perturbed))
    # The best transform hardly changes the gradient: at the optimum its own part is 0.
    made()(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    step = perturbed.grad.detach()
    with torch.no_grad():
        there, back = (made()(images, perturbed + sign * 0.05 * step).sum().item() for sign in (1, -1))
    assert (step**2).sum().item() == pytest.approx((there - back) / 0.1, rel=0.05)


def test_the_gradient_is_finite_between_equals() -> None:
    images = drawn(2, 3, 8, 8)
    perturbed = images.clone().requires_grad_()
    made()(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    assert perturbed.grad.abs().max() == 0
    assert not made(value="rotation")(images, perturbed).requires_grad


def test_nan_never_scores_and_stays_in_its_image() -> None:
    pair = [smooth(3, 12, 12), moved(smooth(3, 12, 12))[0]]
    for value in VALUES:
        clean = made(value=value)(*pair)
        for place in (0, 1):
            broken = [part.clone() for part in pair]
            broken[place][1, 0, 0, 0] = float("nan")
            found = made(value=value)(*broken)
            assert found.isnan().tolist() == [False, True, False]
            assert found[::2].tolist() == pytest.approx(clean[::2].tolist(), rel=1e-4)


def test_a_batch_in_parts_has_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Digits().read(range(5)).images
    whole = made()(images, images.roll(1, 0))
    monkeypatch.setattr("charpy_plugins.metrics.registration.VALUES", 1)
    assert made()(images, images.roll(1, 0)).tolist() == pytest.approx(whole.tolist(), rel=1e-3)


def test_it_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    spans = {"residual": 1, "rotation": 30, "translation": math.inf, "scale": 25, "size": math.inf}
    units = {"residual": "image values", "rotation": "degrees", "translation": "pixels", "scale": "%", "size": "pixels"}
    for value in VALUES:
        metric = registry().create("metrics", "alignment", {"value": value})
        assert isinstance(metric, Alignment)
        assert (metric.direction, metric.unit) == (Direction.DISTANCE, units[value])
        assert metric.range == (0, pytest.approx(spans[value]))
    with pytest.raises(DataError, match="pairs of images"):
        made()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    for wrong in ({"value": "angle"}, {"rotation": 181}, {"translation": 0.6}, {"scale": 0.9}, {"overlap": 0}):
        with pytest.raises(SpecError):
            parse(Alignment.Params, wrong)
