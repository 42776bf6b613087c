"""ciede2000 against the published pairs, and against the formula written pixel by pixel."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from charpy.errors import DataError, SpecError
from charpy.interfaces.metric import Direction
from charpy.plugins import registry
from charpy.specs import parse
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.metrics.ciede2000 import Ciede2000, ciede2000
from charpy_plugins.metrics.colour import lab, linear_srgb

# Sharma, Wu & Dalal 2005, table 1: L*, a*, b* of both colours, and their difference.
PAIRS = """
50.0000   2.6772 -79.7751  50.0000   0.0000 -82.7485  2.0425
50.0000   3.1571 -77.2803  50.0000   0.0000 -82.7485  2.8615
50.0000   2.8361 -74.0200  50.0000   0.0000 -82.7485  3.4412
50.0000  -1.3802 -84.2814  50.0000   0.0000 -82.7485  1.0000
50.0000  -1.1848 -84.8006  50.0000   0.0000 -82.7485  1.0000
50.0000  -0.9009 -85.5211  50.0000   0.0000 -82.7485  1.0000
50.0000   0.0000   0.0000  50.0000  -1.0000   2.0000  2.3669
50.0000  -1.0000   2.0000  50.0000   0.0000   0.0000  2.3669
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0009  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0010  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0011  7.2195
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0012  7.2195
50.0000  -0.0010   2.4900  50.0000   0.0009  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0010  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0011  -2.4900  4.7461
50.0000   2.5000   0.0000  50.0000   0.0000  -2.5000  4.3065
50.0000   2.5000   0.0000  73.0000  25.0000 -18.0000 27.1492
50.0000   2.5000   0.0000  61.0000  -5.0000  29.0000 22.8977
50.0000   2.5000   0.0000  56.0000 -27.0000  -3.0000 31.9030
50.0000   2.5000   0.0000  58.0000  24.0000  15.0000 19.4535
50.0000   2.5000   0.0000  50.0000   3.1736   0.5854  1.0000
50.0000   2.5000   0.0000  50.0000   3.2972   0.0000  1.0000
50.0000   2.5000   0.0000  50.0000   1.8634   0.5757  1.0000
50.0000   2.5000   0.0000  50.0000   3.2592   0.3350  1.0000
60.2574 -34.0099  36.2677  60.4626 -34.1751  39.4387  1.2644
63.0109 -31.0961  -5.8663  62.8187 -29.7946  -4.0864  1.2630
61.2901   3.7196  -5.3901  61.4292   2.2480  -4.9620  1.8731
35.0831 -44.1164   3.7933  35.0232 -40.0716   1.5901  1.8645
22.7233  20.0904 -46.6940  23.0331  14.9730 -42.5619  2.0373
36.4612  47.8580  18.3852  36.2715  50.5065  21.2231  1.4146
90.8027  -2.0831   1.4410  91.1528  -1.6435   0.0447  1.4441
90.9257  -0.5406  -0.9208  88.6381  -0.8985  -0.7239  1.5381
 6.7747  -0.2908  -2.4247   5.8714  -0.0985  -2.2286  0.6377
 2.0776   0.0795  -1.1350   0.9033  -0.0636  -0.5514  0.9082
"""
TABLE = np.array([[float(cell) for cell in line.split()] for line in PAIRS.strip().splitlines()])

Colour = tuple[float, float, float]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def true_lab(colour: np.ndarray) -> Colour:
    """CIELAB from the chromaticities of the standard: red, green, blue and the white D65."""
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    light = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    xyz = primaries @ (np.linalg.solve(primaries, white) * light)
    share = [math.cbrt(v) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in xyz / white]
    return 116 * share[1] - 16, 500 * (share[0] - share[1]), 200 * (share[1] - share[2])


def true_difference(first: Colour, second: Colour) -> float:
    """The formula for one pair, the hues as angles of complex numbers."""
    bar = (math.hypot(*first[1:]) + math.hypot(*second[1:])) / 2
    widen = 1 + (1 - math.sqrt(bar**7 / (bar**7 + 25**7))) / 2
    p, q = (complex(widen * a, b) for _, a, b in (first, second))
    grey = min(abs(p), abs(q)) < 1e-9
    h1, h2 = (0 if abs(z) < 1e-9 else math.degrees(cmath.phase(z)) % 360 for z in (p, q))
    gap = 0 if grey else h2 - h1
    gap = gap - 360 if gap > 180 else gap + 360 if gap < -180 else gap
    if grey:
        mean = h1 + h2
    elif abs(h1 - h2) <= 180:
        mean = (h1 + h2) / 2
    else:
        mean = (h1 + h2 + 360) / 2 if h1 + h2 < 360 else (h1 + h2 - 360) / 2
    light, chroma = (first[0] + second[0]) / 2, (abs(p) + abs(q)) / 2
    cos = lambda degrees: math.cos(math.radians(degrees))  # noqa: E731
    t = 1 - 0.17 * cos(mean - 30) + 0.24 * cos(2 * mean) + 0.32 * cos(3 * mean + 6) - 0.2 * cos(4 * mean - 63)
    dl = (second[0] - first[0]) / (1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2))
    dc = (abs(q) - abs(p)) / (1 + 0.045 * chroma)
    dh = 2 * math.sqrt(abs(p) * abs(q)) * math.sin(math.radians(gap / 2)) / (1 + 0.015 * chroma * t)
    turn = 30 * math.exp(-(((mean - 275) / 25) ** 2))
    rt = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7)) * math.sin(math.radians(2 * turn))
    return math.sqrt(dl**2 + dc**2 + dh**2 + rt * dc * dh)


def truth(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """`(N, pixels)`, in Python's floats."""
    pairs = zip(*(part.double().movedim(1, -1).flatten(1, 2).numpy() for part in (x, y)), strict=True)
    return np.array([[true_difference(true_lab(a), true_lab(b)) for a, b in zip(*pair, strict=True)] for pair in pairs])


def test_the_34_published_pairs() -> None:
    assert TABLE.shape == (34, 7)
    first, second = torch.from_numpy(TABLE[:, :3]), torch.from_numpy(TABLE[:, 3:6])
    for pair in ((first, second), (second, first)):
        assert np.abs(ciede2000(*pair).numpy() - TABLE[:, 6]).max() < 1e-4
    for a, b, expected in zip(TABLE[:, :3], TABLE[:, 3:6], TABLE[:, 6], strict=True):
        assert true_difference(tuple(a), tuple(b)) == pytest.approx(expected, abs=1e-4)


def test_known_colours() -> None:
    # Red, green and blue of sRGB in CIELAB under D65, as they are commonly given.
    known = {(1, 0, 0): (53.24, 80.09, 67.20), (0, 1, 0): (87.73, -86.18, 83.18), (0, 0, 1): (32.30, 79.19, -107.86)}
    for colour, expected in known.items():
        image = torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1)
        assert lab(linear_srgb(image)).flatten().tolist() == pytest.approx(expected, abs=0.02)
    white = lab(torch.ones(1, 3, 1, 1).double()).flatten()
    assert white.tolist() == pytest.approx([100, 0, 0], abs=1e-12)
    assert Ciede2000()(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).item() == pytest.approx(100)


@pytest.mark.data
def test_real_images(data_dir: Path) -> None:
    data = Cifar10(Cifar10.Params.model_validate({"download": False, "data_dir": str(data_dir)}))
    images = data.read(range(3)).images[..., 12:20, 12:20]
    for perturbed in (images.roll(1, 0), (images + 8 / 255 * (2 * drawn(*images.shape) - 1)).clamp(0, 1)):
        expected = truth(images, perturbed)
        assert Ciede2000()(images, perturbed).tolist() == pytest.approx(expected.mean(1).tolist(), rel=1e-5)
        for percentile, rank in ((100, 64), (50, 32), (0.1, 1)):
            metric = registry().create("metrics", "ciede2000", {"percentile": percentile})
            assert isinstance(metric, Ciede2000)
            found = metric(images, perturbed).tolist()
            assert found == pytest.approx(np.sort(expected, axis=1)[:, rank - 1].tolist(), abs=1e-4)


def test_drawn_colours_also_dark_and_grey_ones() -> None:
    images, perturbed = drawn(2, 3, 12, 12), drawn(2, 3, 12, 12, seed=1)
    images[:, :, :3] *= 0.05
    perturbed[:, :, 4:6] = perturbed[:, :1, 4:6]
    assert Ciede2000()(images, perturbed).tolist() == pytest.approx(truth(images, perturbed).mean(1).tolist(), rel=1e-5)
    grey = images[:, :1], perturbed[:, :1]
    colour = images[:, :1].expand(-1, 3, -1, -1), perturbed[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(Ciede2000()(*grey), Ciede2000()(*colour))
    assert Ciede2000()(*grey).tolist() == pytest.approx(truth(*colour).mean(1).tolist(), rel=1e-5)


def test_equal_images_have_0_and_the_order_does_not_count() -> None:
    for images in (drawn(3, 3, 8, 8), drawn(3, 1, 28, 28), torch.zeros(1, 3, 8, 8), drawn(1, 3, 1, 1)):
        assert Ciede2000()(images, images.clone()).tolist() == [0] * len(images)
        other = images.flip(-1) * 0.5 + 0.1
        assert Ciede2000()(images, other).tolist() == pytest.approx(Ciede2000()(other, images).tolist(), rel=1e-6)
        assert (Ciede2000()(images, other) > 1).all()
    assert Ciede2000()(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, 8, 8)).shape == (0,)
    largest = Ciede2000(Ciede2000.Params(percentile=100))
    assert largest(torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8)).shape == (0,)


def test_gradients_are_those_of_finite_differences() -> None:
    pair = [(0.1 + 0.8 * drawn(1, 3, 2, 2, seed=seed)).double().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(Ciede2000(), pair)
    assert torch.autograd.gradcheck(Ciede2000(Ciede2000.Params(percentile=100)), pair)
    grey = [(0.1 + 0.8 * drawn(1, 1, 2, 2, seed=seed)).double().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(Ciede2000(), grey)


def test_gradients_are_finite_between_equals_and_at_grey() -> None:
    colour, grey, black = drawn(1, 3, 8, 8), drawn(1, 1, 8, 8), torch.zeros(1, 3, 8, 8)
    for first, second in (
        (colour, colour),
        (grey, grey),
        (black, black),
        (black, colour),
        (grey.expand(-1, 3, -1, -1), colour),
    ):
        pair = [first.clone().requires_grad_(), second.clone().requires_grad_()]
        Ciede2000()(*pair).sum().backward()  # type: ignore[no-untyped-call]
        for part in pair:
            assert part.grad is not None
            assert part.grad.isfinite().all()
            assert (part.grad.abs().max() == 0) == (first is second)


def test_nan_never_scores_and_stays_in_its_image() -> None:
    pair = [drawn(3, 3, 8, 8), drawn(3, 3, 8, 8, seed=1)]
    for percentile in (None, 100, 1):
        metric = Ciede2000(Ciede2000.Params(percentile=percentile))
        clean = metric(*pair)
        for place in (0, 1):
            broken = [part.clone() for part in pair]
            broken[place][1, 0, 0, 0] = float("nan")
            found = metric(*broken)
            assert found.isnan().tolist() == [False, True, False]
            assert torch.equal(found[::2], clean[::2])


def test_it_says_what_it_is_and_refuses_what_it_cannot_use() -> None:
    metric = registry().create("metrics", "ciede2000", {})
    assert isinstance(metric, Ciede2000)
    assert (metric.direction, metric.range, metric.unit) == (Direction.DISTANCE, (0, 120), "delta E 2000")
    with pytest.raises(DataError, match="2 channels"):
        metric(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))
    with pytest.raises(DataError, match="pairs of images"):
        metric(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    for wrong in (0, 101):
        with pytest.raises(SpecError):
            parse(Ciede2000.Params, {"percentile": wrong})
