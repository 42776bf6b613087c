"""perceptual_diff against its formulas written pixel by pixel, and what an eye must and must not see."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Direction
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist
from charpy_plugins.metrics.perceptual_diff import PerceptualDiff
from charpy_plugins.metrics.vision import threshold

DEFAULTS = {"field_of_view": 45.0, "luminance": 100.0, "gamma": 2.2, "colour_factor": 1.0, "octaves": False}


def made(**params: Any) -> PerceptualDiff:
    return PerceptualDiff(PerceptualDiff.Params.model_validate(params))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def photograph(height: int, width: int) -> torch.Tensor:
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1) / 255
    return photo[None, :, 100 : 100 + height, 200 : 200 + width]


def changed(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """On the grid of 8 bits: with strong noise, with faint noise, and with another image."""
    parts = [(images + size * (2 * drawn(*images.shape) - 1)).clamp(0, 1) for size in (8 / 255, 2 / 255)]
    return torch.cat([images] * 3), (torch.cat([*parts, images.flip(-1)]) * 255).round() / 255


def true_threshold(luminance: float) -> float:
    log = math.log10(luminance)
    if log < -3.94:
        return 10**-2.86
    if log < -1.44:
        return 10 ** ((0.405 * log + 1.6) ** 2.18 - 2.86)
    if log < -0.0184:
        return 10 ** (log - 0.395)
    if log < 1.9:
        return 10 ** ((0.249 * log + 0.65) ** 2.7 - 0.72)
    return 10 ** (log - 1.255)


def true_sensitivity(frequency: float, luminance: float) -> float:
    a, b = 440 * (1 + 0.7 / luminance) ** -0.2, 0.3 * (1 + 100 / luminance) ** 0.15
    return a * frequency * math.exp(-b * frequency) * math.sqrt(1 + 0.06 * math.exp(b * frequency))


def mirrored(place: int, side: int) -> int:
    """Walks off the edge and back: -1 is 1, and `side` is `side - 2`."""
    while not 0 <= place < side:
        place = -place if place < 0 else 2 * (side - 1) - place
        if side == 1:
            return 0
    return place


def smoothed(image: np.ndarray, step: int) -> np.ndarray:
    weights, (height, width) = (0.05, 0.25, 0.4, 0.25, 0.05), image.shape
    found = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            for m in range(5):
                for n in range(5):
                    value = image[mirrored(i + step * (m - 2), height), mirrored(j + step * (n - 2), width)]
                    found[i, j] += weights[m] * weights[n] * value
    return found


def true_share(x: np.ndarray, y: np.ndarray, **changes: Any) -> float:
    """The formulas in plain Python."""
    setting = {**DEFAULTS, **changes}
    matrix = np.array(
        [[0.576700, 0.185556, 0.188212], [0.297361, 0.627355, 0.0752847], [0.0270328, 0.0706879, 0.991248]]
    )
    white, pyramids, opponents = matrix.sum(1), [], []
    for image in (x, y):
        xyz = np.tensordot(matrix, np.broadcast_to(image, (3, *image.shape[1:])) ** setting["gamma"], 1)
        f = np.zeros_like(xyz)
        for place in np.ndindex(xyz.shape):
            share = xyz[place] / white[place[0]]
            f[place] = math.cbrt(share) if share > 216 / 24389 else (24389 / 27 * share + 16) / 116
        opponents.append((500 * (f[0] - f[1]), 200 * (f[1] - f[2])))
        levels = [xyz[1] * setting["luminance"]]
        for level in range(7):
            levels.append(smoothed(levels[-1], 2**level if setting["octaves"] else 1))
        pyramids.append(levels)
    across = 2 * math.tan(math.radians(setting["field_of_view"] / 2)) * 180 / math.pi
    level = next((i for i in range(8) if 2**i > across), 7)
    height, width = x.shape[1:]
    seen = 0
    for i in range(height):
        for j in range(width):
            a, b = ([float(part[i, j]) for part in levels] for levels in pyramids)
            adapted = max((a[level] + b[level]) / 2, 1e-5)
            total = weighted = 0.0
            for band in range(6):
                frequency = width / across / 2 ** (band + 1)
                step = max(abs(a[band] - a[band + 1]), abs(b[band] - b[band + 1]))
                contrast = step / max(a[band + 2], b[band + 2], 1e-5)
                normal = 392.498 * contrast * true_sensitivity(frequency, adapted)
                mask = (1 + (0.0153 * normal**0.7) ** 4) ** 0.25
                weighted += contrast * mask * true_sensitivity(3.248, 100) / true_sensitivity(frequency, 100)
                total += contrast
            elevation = min(max(weighted / max(total, 1e-5), 1), 10)
            shift = sum((q[i, j] - p[i, j]) ** 2 for p, q in zip(*opponents, strict=True)) * setting["colour_factor"]
            by_colour = adapted >= 10 and shift > elevation
            seen += abs(a[0] - b[0]) > elevation * true_threshold(adapted) or by_colour
    return seen / (height * width)


def agrees(images: torch.Tensor, perturbed: torch.Tensor, **params: Any) -> list[float]:
    found = made(**params)(images, perturbed)
    pairs = zip(*(part.double().numpy() for part in (images, perturbed)), strict=True)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([true_share(*pair, **params) for pair in pairs], abs=1e-6)
    return found.tolist()


def test_digits_and_photographs_agree_with_the_formulas() -> None:
    assert len(set(agrees(*changed(Digits().read(range(2)).images)))) > 2
    assert len(set(agrees(*changed(photograph(14, 17))))) > 1
    for thin in (photograph(1, 9), photograph(9, 1), photograph(1, 1), photograph(2, 3)):
        agrees(*changed(thin))


@pytest.mark.parametrize(
    "params",
    [{"field_of_view": 20}, {"luminance": 12}, {"gamma": 1.4}, {"colour_factor": 0.1}, {"octaves": True}],
    ids=str,
)
def test_every_parameter_has_the_effect_that_it_has_in_the_formulas(params: dict[str, Any]) -> None:
    waves = 0.1 * torch.sin(torch.arange(16) / 2.5) + 0.01 * torch.arange(16)[:, None]
    image = (torch.tensor([0.5, 0.4, 0.3])[:, None, None] + waves)[None]
    ramp = torch.linspace(0, 0.3, 256).reshape(16, 16)
    pair = (
        image.expand(2, -1, -1, -1),
        torch.cat([image + ramp, image + ramp * torch.tensor([0.1, 0, 1])[:, None, None]]),
    )
    near = {"field_of_view": 3.0}
    assert agrees(*pair, **{**near, **params}) != made(**near)(*pair).tolist()


@pytest.mark.data
@pytest.mark.parametrize("data", [Mnist, Cifar10])
def test_real_images(data: type[Dataset], data_dir: Path) -> None:
    opened = data(data.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    agrees(*changed(opened.read([7]).images[..., 6:22, 6:22]))


def test_the_threshold_has_no_jumps_and_the_published_ends() -> None:
    lights = 10 ** torch.linspace(-6, 4, 2001).double()
    found = threshold(lights)
    assert found.tolist() == pytest.approx([true_threshold(light) for light in lights.tolist()], rel=1e-9)
    assert ((found[1:] / found[:-1]).log10().abs() < 0.02).all()
    assert found[0].item() == pytest.approx(10**-2.86)
    assert (found[-1] / lights[-1]).item() == pytest.approx(10**-1.255)  # Weber's law: 5.6 %


def test_equal_images_have_0_and_the_order_does_not_count() -> None:
    images, perturbed = changed(photograph(40, 40))
    assert made()(images, images.clone()).tolist() == [0] * 3
    assert torch.equal(made()(images, perturbed), made()(perturbed, images))
    assert made()(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)).tolist() == [0, 0]
    assert made()(images[:0], images[:0]).shape == (0,)


def test_what_cannot_be_seen_is_not_and_the_more_changes_the_more_is() -> None:
    images = photograph(40, 40)
    noise = 2 * drawn(*images.shape) - 1
    shares = [made()(images, (images + size / 255 * noise).clamp(0, 1)).item() for size in (0, 0.3, 2, 8, 32)]
    assert shares[:2] == [0, 0]
    assert shares == sorted(shares)
    assert shares[4] > 0.5 > shares[3] > 0.01
    assert made()(torch.zeros(1, 1, 28, 28), torch.ones(1, 1, 28, 28)).item() == 1
    few = images.clone()
    few[..., 20, 20] = 1 - few[..., 20, 20].round()
    assert 0.99 / 1600 < made()(images, few).item() < 0.01


def test_a_busy_area_hides_more_than_a_flat_one() -> None:
    flat = torch.full((1, 1, 32, 32), 0.5)
    busy = flat + 0.4 * (2 * drawn(1, 1, 32, 32) - 1)
    metric = made(colour_factor=0)
    assert metric(flat, flat + 0.05).item() == 1
    assert metric(busy, busy + 0.05).item() < 0.5


def test_colours_are_compared_in_the_light_only() -> None:
    image = torch.full((1, 3, 8, 8), 0.5)
    other = image.clone()
    other[:, 2] += 0.2  # blue is hardly any luminance
    assert made()(image, other).item() == 1
    assert made(luminance=20)(image, other).item() == made(colour_factor=0, luminance=20)(image, other).item()


def test_grey_is_colour_with_equal_channels_and_nan_stays_in_its_image() -> None:
    grey = changed(Digits().read(range(2)).images)
    assert torch.equal(made()(*grey), made()(*(part.expand(-1, 3, -1, -1) for part in grey)))
    for place in (0, 1):
        broken = [part.clone() for part in grey]
        broken[place][1, 0, 0, 0] = float("nan")
        found = made()(*broken)
        assert found.isnan().tolist() == [False, True, *[False] * 4]


def test_a_batch_in_parts_has_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = changed(Digits().read(range(5)).images)
    whole = made()(*pair)
    monkeypatch.setattr("charpy_plugins.metrics.perceptual_diff.PIXELS", 128)
    assert torch.equal(made()(*pair), whole)


def test_it_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    metric = registry().create("metrics", "perceptual_diff", {})
    assert isinstance(metric, PerceptualDiff)
    assert (metric.direction, metric.range, metric.unit) == (Direction.DISTANCE, (0, 1), "1")
    assert metric.params.model_dump() == DEFAULTS
    with pytest.raises(DataError, match="4 channels"):
        metric(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))
    for wrong in ({"field_of_view": 90}, {"luminance": 0}, {"gamma": 0}, {"colour_factor": 2}):
        with pytest.raises(SpecError):
            parse(PerceptualDiff.Params, wrong)
