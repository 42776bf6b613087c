from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance as scipy_distance

from charpy.errors import DataError, SpecError
from charpy.interfaces.metric import Direction, Metric
from charpy.pixels import as_images, distances
from charpy.specs import parse
from charpy.threat import Norm
from charpy_plugins.metrics.l0_features import L0Features
from charpy_plugins.metrics.l0_pixels import L0Pixels
from charpy_plugins.metrics.l1 import L1
from charpy_plugins.metrics.l2 import L2
from charpy_plugins.metrics.linf import Linf

METRICS = [L0Pixels, L0Features, L1, L2, Linf]
SCALED = [L1, L2, Linf]

# Independent truth for one pair of flat images: SciPy's distances, NumPy's counting.
TRUTH = {
    L0Features: lambda x, y, c: np.count_nonzero(x != y),
    L0Pixels: lambda x, y, c: len(set((np.flatnonzero(x != y) % (x.size // c)).tolist())),
    L1: lambda x, y, c: scipy_distance.cityblock(x, y),
    L2: lambda x, y, c: scipy_distance.euclidean(x, y),
    Linf: lambda x, y, c: scipy_distance.chebyshev(x, y),
}

PAIRS = hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=4).flatmap(
    lambda shape: st.tuples(
        *[hnp.arrays(np.float32, shape, elements=st.sampled_from([0, 0.25, 0.5, 1]) | st.floats(0, 1, width=32))] * 2
    )
)
quick = settings(max_examples=50)


def scaled(kind: type[Metric], scale: int) -> Metric:
    return kind(kind.Params.model_validate({"scale": scale}))


@quick
@given(PAIRS, st.sampled_from(METRICS))
def test_values_agree_with_an_independent_library(pair: tuple[np.ndarray, np.ndarray], kind: type[Metric]) -> None:
    found = kind()(*(torch.from_numpy(part) for part in pair))
    expected = [TRUTH[kind](x.ravel(), y.ravel(), x.shape[0]) for x, y in zip(*pair, strict=True)]
    assert found.shape == (len(pair[0]),)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@quick
@given(PAIRS, st.sampled_from(METRICS))
def test_distances_are_symmetric_and_zero_only_between_equals(
    pair: tuple[np.ndarray, np.ndarray], kind: type[Metric]
) -> None:
    a, b = (torch.from_numpy(part) for part in pair)
    assert torch.equal(kind()(a, b), kind()(b, a))
    assert torch.equal(kind()(a, a), torch.zeros(len(a)))
    different = (a - b).flatten(1).abs().amax(1) > 1e-6
    assert (kind()(a, b)[different] > 0).all()


@quick
@given(
    hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=4).flatmap(
        lambda shape: st.tuples(hnp.arrays(np.uint8, shape), hnp.arrays(np.uint8, shape))
    )
)
def test_on_the_0_to_255_scale_they_are_the_exact_distances_of_the_judge(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (torch.from_numpy(part) for part in pair)
    for kind, norm in ((L1, Norm.L1), (L2, Norm.L2), (Linf, Norm.LINF)):
        found = scaled(kind, 255)(as_images(a), as_images(b))
        assert found.tolist() == pytest.approx(distances(norm, a, b).tolist(), rel=1e-5, abs=1e-3)
    assert L0Pixels()(as_images(a), as_images(b)).tolist() == distances(Norm.L0, a, b).tolist()


def test_one_pixel_that_changes_from_black_to_white() -> None:
    """The figure of the dual paper: one pixel of a colour image, changed by 255 in every channel.

    Kotyan & Vargas (2020), caption of figure 2, call 765 "the maximum L2 for the One-Pixel attack". 765 = 3 * 255 is
    its L1; its L2 is 255 * sqrt(3) = 441.67. The paper's bracketed "mean L2" figures must be read with that in mind.
    """
    images = torch.zeros(1, 3, 32, 32)
    perturbed = images.clone()
    perturbed[0, :, 10, 20] = 1
    assert scaled(L1, 255)(images, perturbed).item() == 765
    assert scaled(L2, 255)(images, perturbed).item() == pytest.approx(441.67, abs=0.005)
    assert scaled(Linf, 255)(images, perturbed).item() == 255
    assert L0Pixels()(images, perturbed).item() == 1
    assert L0Features()(images, perturbed).item() == 3


@pytest.mark.parametrize("kind", SCALED)
def test_the_scale_is_a_factor_and_changes_the_unit(kind: type[Metric]) -> None:
    a, b = torch.rand(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert kind().params.scale == 1
    assert torch.allclose(scaled(kind, 255)(a, b), kind()(a, b) * 255)
    assert kind().unit == "image values"
    assert scaled(kind, 255).unit == "1/255 steps"


@pytest.mark.parametrize("kind", METRICS)
def test_the_declared_range_holds_and_is_reached(kind: type[Metric]) -> None:
    metric = kind()
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    low, high = metric.range
    assert metric.direction is Direction.DISTANCE
    assert metric(black, black).item() == low == 0
    farthest = {L0Pixels: 16, L0Features: 48, L1: 48, L2: math.sqrt(48), Linf: 1}[kind]
    assert metric(black, white).item() == pytest.approx(farthest)
    assert farthest <= high
    if kind is Linf:
        assert high == 1
        assert scaled(Linf, 255).range == (0, 255)
        assert scaled(Linf, 255)(black, white).item() == 255
    else:
        assert high == math.inf


@pytest.mark.parametrize(("kind", "unit"), [(L0Pixels, "pixels"), (L0Features, "features")])
def test_peer_defect_13_l0_states_its_unit(kind: type[Metric], unit: str) -> None:
    assert kind().unit == kind.unit == unit


@pytest.mark.parametrize(
    ("kind", "gradient"),
    [(L1, [1.0, -1.0, 0.0, 1.0]), (L2, [0.6, -0.0, 0.0, 0.8]), (Linf, [0.0, 0.0, 0.0, 1.0])],
)
def test_gradients_are_those_of_the_formula(kind: type[Metric], gradient: list[float]) -> None:
    change = torch.tensor({L1: [0.1, -0.2, 0.0, 0.3], L2: [0.3, 0.0, 0.0, 0.4], Linf: [0.1, -0.2, 0.0, 0.3]}[kind])
    images = torch.full((1, 1, 2, 2), 0.5)
    perturbed = (images + change.reshape(1, 1, 2, 2)).requires_grad_()
    kind()(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    assert perturbed.grad.flatten().tolist() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize("kind", SCALED)
def test_the_gradient_between_equal_images_is_finite(kind: type[Metric]) -> None:
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    perturbed = images.clone().requires_grad_()
    kind()(images, perturbed).sum().backward()  # type: ignore[no-untyped-call]
    assert perturbed.grad is not None
    assert torch.equal(perturbed.grad, torch.zeros_like(images))


@pytest.mark.parametrize("kind", METRICS)
def test_arguments_stay_as_they_are_and_nan_is_never_no_change(kind: type[Metric]) -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    perturbed = images.clone()
    perturbed[1, 0, 0, 0] = float("nan")
    found = kind()(images, perturbed)
    assert found[0].item() == 0
    assert found[1].item() != 0
    assert torch.equal(images, torch.full((2, 1, 2, 2), 0.5))
    assert perturbed.isnan().sum() == 1


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize(
    "pair",
    [
        (torch.zeros(1, 1, 2, 2), torch.zeros(5, 1, 2, 2)),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, 3, 2, 2)),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2, dtype=torch.uint8)),
        (torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.uint8)),
    ],
)
def test_pairs_that_torch_would_broadcast_or_wrap_are_refused(
    kind: type[Metric], pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with pytest.raises(DataError, match="pairs of images"):
        kind()(*pair)


@pytest.mark.parametrize(
    ("kind", "params"), [(L2, {"scale": 2}), (L2, {"scale": "255"}), (L2, {"scal": 1}), (L0Pixels, {"scale": 255})]
)
def test_row_16_other_parameters_are_refused(kind: type[Metric], params: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        parse(kind.Params, params)
