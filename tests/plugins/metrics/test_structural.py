"""psnr, ssim, ms_ssim, uqi and vif against their papers' formulas in numpy loops, on real images."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from charpy.errors import DataError, PluginError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Direction, Metric
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist
from charpy_plugins.metrics.ms_ssim import WEIGHTS, MsSsim
from charpy_plugins.metrics.psnr import Psnr
from charpy_plugins.metrics.ssim import Ssim
from charpy_plugins.metrics.uqi import Uqi
from charpy_plugins.metrics.vif import Vif

Pair = tuple[torch.Tensor, torch.Tensor]
Moments = tuple[float, float, float, float, float]


def made(kind: type[Metric], **params: Any) -> Metric:
    return kind(kind.Params.model_validate(params))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def changed(images: torch.Tensor) -> Pair:
    """Pairs on the grid of 8 bits: with faint noise, with two pixels changed, and with another image."""
    noise, few = 0.1 * (drawn(*images.shape) - 0.5), images.clone()
    few[..., 1, 2], few[..., 4, 5] = 1, 0.2
    others = torch.cat([(images + noise).clamp(0, 1), few, images.roll(1, 0)])
    return torch.cat([images] * 3), (others * 255).round() / 255


def digits(count: int = 3) -> Pair:
    return changed(Digits().read(range(count)).images)


def photographs(side: int = 48) -> Pair:
    """Two pieces of a photograph, in colour."""
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1) / 255
    return changed(torch.stack([photo[:, 100 : 100 + side, 200 : 200 + side], photo[:, -side:, -side:]]))


def gaussian(window: int, sigma: float) -> np.ndarray:
    """A normalised window, weight by weight."""
    middle = (window - 1) / 2
    weights = [
        [math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma**2)) for j in range(window)]
        for i in range(window)
    ]
    return np.array(weights) / np.sum(weights)


def moments(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Iterator[Moments]:
    """(mx, my, vx, vy, cov) of every window inside a channel, in two passes."""
    window = len(weights)
    for i in range(x.shape[0] - window + 1):
        for j in range(x.shape[1] - window + 1):
            a, b = x[i : i + window, j : j + window], y[i : i + window, j : j + window]
            mx, my = (weights * a).sum(), (weights * b).sum()
            vx, vy = (weights * (a - mx) ** 2).sum(), (weights * (b - my) ** 2).sum()
            if a.min() == a.max():
                mx, vx = a.min(), 0.0
            if b.min() == b.max():
                my, vy = b.min(), 0.0
            yield mx, my, vx, vy, (weights * (a - mx) * (b - my)).sum()


def true_psnr(x: np.ndarray, y: np.ndarray) -> float:
    return 10 * math.log10(1 / (sum((a - b) ** 2 for a, b in zip(x.flat, y.flat, strict=True)) / x.size))


def true_ssim(x: np.ndarray, y: np.ndarray, window: int, part: str = "all") -> float:
    c1, c2, found = 0.01**2, 0.03**2, []
    for a, b in zip(x, y, strict=True):
        for mx, my, vx, vy, cov in moments(a, b, gaussian(window, 1.5 * window / 11)):
            contrast = (2 * cov + c2) / (vx + vy + c2)
            found.append(contrast * ((2 * mx * my + c1) / (mx**2 + my**2 + c1) if part == "all" else 1))
    return float(np.mean(found))


def true_ms_ssim(x: np.ndarray, y: np.ndarray, window: int, scales: int) -> float:
    value = 1.0
    for scale in range(scales):
        part = true_ssim(x, y, window, "all" if scale == scales - 1 else "contrast")
        value *= max(part, 0) ** (WEIGHTS[scale] / sum(WEIGHTS[:scales]))
        rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        x, y = (
            sum(z[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)) / 4  # type: ignore[misc]
            for z in (x, y)
        )
    return value


def true_uqi(x: np.ndarray, y: np.ndarray, window: int) -> float:
    found = []
    for a, b in zip(x, y, strict=True):
        for mx, my, vx, vy, cov in moments(a, b, gaussian(window, 1.5 * window / 11)):
            luminance = 1.0 if mx == my == 0 else 2 * mx * my / (mx**2 + my**2)
            found.append(luminance * (1.0 if vx == vy == 0 else 2 * cov / (vx + vy)))
    return float(np.mean(found))


def halved(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of every other window."""
    n = len(weights)
    rows, columns = (range(0, side - n + 1, 2) for side in x.shape)
    return np.array([[(weights * x[i : i + n, j : j + n]).sum() for j in columns] for i in rows])


def true_vif(x: np.ndarray, y: np.ndarray) -> float:
    found = []
    for a, b in zip(255 * x, 255 * y, strict=True):
        left = whole = 0.0
        for window in (17, 9, 5, 3):
            weights = gaussian(window, window / 5)
            if window < 17:
                a, b = halved(a, weights), halved(b, weights)
            for _, _, vx, vy, cov in moments(a, b, weights):
                gain = max(cov / vx, 0) if vx > 0 else 0
                left += math.log(1 + gain**2 * vx / (vy - gain * cov + 2)) if gain else 0
                whole += math.log(1 + vx / 2)
        found.append(left / whole)
    return float(np.mean(found))


def gap(metric: Metric, pair: Pair, truth: Callable[..., float], *more: Any) -> float:
    """The largest difference of the metric to its truth; its values must be of the usual form, image by image."""
    found = metric(*pair)
    expected = [truth(x, y, *more) for x, y in zip(*(part.double().numpy() for part in pair), strict=True)]
    assert found.shape == (len(pair[0]),)
    assert found.dtype == torch.float32
    assert max(expected) - min(expected) > 0.01  # the pairs tell something apart
    return max(abs(a - b) for a, b in zip(found.tolist(), expected, strict=True))


ALL = [Psnr, Ssim, MsSsim, Uqi, Vif]
SMALL = {Psnr: Psnr(), Ssim: Ssim(), MsSsim: made(MsSsim, scales=2), Uqi: Uqi()}


def test_digits_of_8_by_8_pixels_get_the_stated_window() -> None:
    assert gap(Psnr(), digits(), true_psnr) < 1e-5
    assert gap(Ssim(), digits(), true_ssim, 7) < 1e-6
    assert gap(Uqi(), digits(), true_uqi, 7) < 1e-6
    assert gap(made(MsSsim, scales=2), digits(), true_ms_ssim, 3, 2) < 1e-6
    assert gap(made(Ssim, window=5), digits(), true_ssim, 5) < 1e-6
    assert gap(made(Uqi, window=3), digits(), true_uqi, 3) < 1e-6


def test_photographs_in_colour() -> None:
    pair = photographs()
    assert gap(Psnr(), pair, true_psnr) < 1e-5
    assert gap(Vif(), pair, true_vif) < 1e-5
    assert gap(MsSsim(), pair, true_ms_ssim, 3, 5) < 1e-6
    pair = (pair[0][::2, :, :24, :30], pair[1][::2, :, :24, :30])
    assert gap(Ssim(), pair, true_ssim, 11) < 1e-6
    assert gap(Uqi(), pair, true_uqi, 11) < 1e-6


@pytest.mark.data
@pytest.mark.parametrize("kind", [Mnist, Cifar10])
def test_real_data(kind: type[Dataset], data_dir: Path) -> None:
    data = kind(kind.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    images, perturbed = changed(data.read(range(2)).images)
    pair = images[::2], perturbed[::2]
    assert gap(Psnr(), pair, true_psnr) < 1e-5
    assert gap(Ssim(), pair, true_ssim, 11) < 1e-6
    assert gap(Uqi(), pair, true_uqi, 11) < 1e-6
    assert gap(made(MsSsim, scales=4), pair, true_ms_ssim, 3, 4) < 1e-6


@pytest.mark.parametrize("kind", SMALL)
def test_equal_small_images_are_as_alike_as_can_be_and_the_order_does_not_count(kind: type[Metric]) -> None:
    metric, (images, perturbed) = SMALL[kind], digits()
    black, grey = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    for same in (images, black, grey):
        assert metric(same, same.clone()).tolist() == pytest.approx([metric.range[1]] * len(same), abs=1e-6)
    assert (metric(images, perturbed) < metric.range[1]).all()
    assert metric(images, perturbed).tolist() == pytest.approx(metric(perturbed, images).tolist(), rel=1e-6)


def test_the_same_holds_of_vif_but_for_the_order() -> None:
    images, perturbed = photographs(41)
    assert Vif()(images, images.clone()).tolist() == [1] * 6
    assert Vif()(images, images * 1.001).tolist() == pytest.approx([1] * 6, abs=0.01)
    assert not torch.allclose(Vif()(images, perturbed), Vif()(perturbed, images), rtol=0.01)
    grey = torch.full_like(images[:1], 0.5)
    assert Vif()(grey, grey).item() == 1
    assert Vif()(grey, images[:1]).isnan().all()
    assert Vif()(images[:1], grey).item() == pytest.approx(0, abs=1e-6)
    assert Vif()(images[:1] * 0.5, images[:1]).item() > 1


def test_known_values_of_flat_images() -> None:
    light, dark = torch.full((1, 1, 8, 8), 0.8), torch.full((1, 1, 8, 8), 0.2)
    assert Psnr()(light, dark).item() == pytest.approx(-20 * math.log10(0.6), rel=1e-6)
    assert made(Psnr, data_range=255)(255 * light, 255 * dark).item() == pytest.approx(-20 * math.log10(0.6), rel=1e-6)
    assert Uqi()(light, dark).item() == pytest.approx(0.32 / 0.68, rel=1e-6)
    assert Ssim()(light, dark).item() == pytest.approx(0.3201 / 0.6801, rel=1e-6)
    assert Uqi()(light, light * 0).item() == 0


@pytest.mark.parametrize("kind", ALL)
def test_nan_never_scores_and_stays_in_its_image(kind: type[Metric]) -> None:
    metric, (images, perturbed) = made(kind, **({"scales": 2} if kind is MsSsim else {})), photographs(41)
    clean = metric(images[:3], perturbed[:3])
    for first in (False, True):
        pair = [images[:3].clone(), perturbed[:3].clone()]
        pair[first][1, 0, 20, 20] = float("nan")
        found = metric(*pair)
        assert found.isnan().tolist() == [False, True, False]
        assert torch.equal(found[::2], clean[::2])


@pytest.mark.parametrize("kind", SMALL)
def test_gradients_are_those_of_finite_differences(kind: type[Metric]) -> None:
    pair = [drawn(2, 2, 8, 7, seed=seed).double().requires_grad_() for seed in (0, 1)]
    pair[1] = (0.8 * pair[0].detach() + 0.2 * pair[1].detach()).requires_grad_()
    assert torch.autograd.gradcheck(SMALL[kind], pair)


def test_a_negative_factor_counts_as_0_and_passes_no_gradient() -> None:
    board = torch.ones(1, 1, 8, 8)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = 0
    perturbed = (1 - board).requires_grad_()
    value = SMALL[MsSsim](board, perturbed)
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert Ssim()(board, perturbed).item() < -0.9
    assert perturbed.grad is not None
    assert perturbed.grad.isfinite().all()


def test_images_that_are_too_small_are_refused_with_what_to_do() -> None:
    pair = (torch.zeros(1, 1, 2, 8), torch.ones(1, 1, 2, 8))
    for metric in (Ssim(), Uqi(), made(MsSsim, scales=1)):
        with pytest.raises(DataError, match="psnr, l2"):
            metric(*pair)
    with pytest.raises(DataError, match=r"48 pixels a side\n  next:     set scales: 4"):
        MsSsim()(*[torch.zeros(1, 1, 28, 28)] * 2)
    with pytest.raises(DataError, match="41 x 41 pixels\n  next:     use ssim"):
        Vif()(*[torch.zeros(1, 1, 40, 64)] * 2)


@pytest.mark.parametrize("kind", ALL)
def test_each_says_what_it_is_and_refuses_what_it_cannot_use(kind: type[Metric]) -> None:
    name = {Psnr: "psnr", Ssim: "ssim", MsSsim: "ms_ssim", Uqi: "uqi", Vif: "vif"}[kind]
    metric = registry().create("metrics", name, {})
    assert isinstance(metric, kind)
    assert (metric.direction, metric.unit) == (Direction.SIMILARITY, "dB" if kind is Psnr else "1")
    for wrong in ({"window": 4}, {"window": 1}, {"data_range": 0}, {"scales": 6}, {"noise": 0}, {"k1": 0}):
        with pytest.raises(SpecError):
            parse(kind.Params, wrong)
    with pytest.raises(DataError, match="pairs of images"):
        metric(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))


def test_a_torchvision_that_does_not_fit_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(PluginError, match=r"torchvision::nms does not exist(.|\n)*pip uninstall torchvision"):
        Psnr()(*[torch.zeros(1, 1, 8, 8)] * 2)


def test_naming_the_metrics_does_not_load_torchmetrics() -> None:
    modules = ", ".join(f"charpy_plugins.metrics.{name}" for name in ("psnr", "ssim", "ms_ssim", "uqi", "vif"))
    code = f"import sys, {modules}; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
