"""What every certifier of networks must survive: overflow, odd operators, empty calls, labels that are none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from charpy.bounds.networks import graph_of, why_not
from charpy.errors import DataError
from charpy.threat import Norm, ThreatModel
from charpy_plugins.certifiers.branch_and_bound import BranchAndBound
from charpy_plugins.certifiers.crown import Crown
from charpy_plugins.certifiers.few_pixels import FewPixels
from charpy_plugins.wrappers.torch_module import TorchModel

ALL = [(Crown, Norm.LINF), (BranchAndBound, Norm.LINF), (FewPixels, Norm.L0)]


def opened(module: nn.Module, shape: tuple[int, int, int], classes: int = 2) -> TorchModel:
    return TorchModel.from_module(module.eval(), input_shape=shape, num_classes=classes)


def threat_of(norm: Norm) -> ThreatModel:
    return ThreatModel.at_level(norm, 1 if norm is Norm.L0 else 10)


@pytest.mark.parametrize("kind", [Crown, BranchAndBound])
def test_bounds_that_overflow_prove_nothing(kind):
    """Finite weights and scores, and an image inside the ball that is misclassified; the bounds are NaN."""
    first, last = nn.Linear(4, 4), nn.Linear(4, 2)
    for layer in (first, last):
        nn.init.zeros_(layer.bias)
    first.weight.data = torch.tensor(
        [[3e38, -3e38, 0, 0], [-3e38, 3e38, 0, 0], [0, 0, 3e38, -3e38], [0, 0, -3e38, 3e38]]
    )
    last.weight.data = torch.tensor([[1.0, -1, 0, 0], [-1.0, 1, 0, 0]])
    model = opened(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last), (1, 2, 2))
    image = torch.tensor([[[[0.55, 0.45], [0.5, 0.5]]]])
    other = torch.tensor([[[[0.45, 0.55], [0.5, 0.5]]]])
    assert model.predict(torch.cat([image, other])).argmax(1).tolist() == [0, 1]
    threat = ThreatModel.at_level(Norm.LINF, 127)
    assert not bool(kind(kind.Params(seconds=1)).certify(model, image, torch.tensor([0]), threat))


@pytest.mark.parametrize(("kind", "norm"), ALL)
@pytest.mark.parametrize("last", [nn.Identity(), nn.Tanh()])
def test_networks_without_anything_to_split(kind, norm, last):
    torch.manual_seed(0)
    model = opened(nn.Sequential(nn.Flatten(), nn.Linear(9, 6), last, nn.Linear(6, 3)), (1, 3, 3), 3)
    images = torch.rand(6, 1, 3, 3)
    labels = model.predict(images).argmax(1)
    answers = kind(kind.Params(seconds=0.5)).certify(model, images, labels, threat_of(norm))
    assert answers.shape == (6,)
    assert bool(answers.any())


@pytest.mark.parametrize(("kind", "norm"), ALL)
def test_double_precision_where_the_network_does_not_end_in_a_linear_layer(kind, norm):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = opened(nn.Sequential(*layers), (1, 5, 5), 3)
    images = torch.rand(4, 1, 5, 5)
    labels = model.predict(images).argmax(1)
    threat = ThreatModel(norm=norm, radius=1 if norm is Norm.L0 else 1e-4)
    double = kind(kind.Params(float64=True, seconds=1)).certify(model, images, labels, threat)
    single = kind(kind.Params(seconds=1)).certify(model, images, labels, threat)
    assert double.tolist() == single.tolist()
    assert norm is Norm.L0 or bool(double.all())


class Pooled(nn.Module):
    def __init__(self, pool) -> None:
        super().__init__()
        self.conv, self.last, self.pool = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), pool

    def forward(self, images):
        return self.last(self.pool(torch.relu(self.conv(images))))


def test_sums_over_a_map_are_supported():
    torch.manual_seed(0)
    model = opened(Pooled(lambda maps: maps.sum((2, 3))), (1, 5, 5))
    images = torch.rand(8, 1, 5, 5)
    torch.testing.assert_close(graph_of(model)(images), model.predict(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "pool",
    [
        lambda maps: maps.mean() + maps.mean((2, 3)),
        lambda maps: torch.div(maps, 2.0, rounding_mode="floor").mean((2, 3)),
        lambda maps: maps.cumsum(1).mean((2, 3)),
    ],
    ids=["mean of all", "rounded division", "cumulative sum"],
)
def test_uses_of_an_operator_that_have_no_bounds_are_named(pool):
    assert "no bounds for" in why_not(opened(Pooled(pool), (1, 5, 5)))


def test_arithmetic_that_repeats_a_value_is_refused():
    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
            self.last = nn.Linear(27, 2)

        def forward(self, images):
            return self.last((images - self.mean).flatten(1))

    assert "repeats a value" in why_not(opened(Repeated(), (1, 3, 3)))


@pytest.mark.parametrize(("kind", "norm"), ALL)
def test_an_empty_call_and_labels_that_are_no_class(kind, norm):
    model = opened(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)), (1, 2, 2))
    none = kind().certify(model, torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64), threat_of(norm))
    assert (none.shape, none.dtype) == ((0,), torch.bool)
    for label in (2, -1):
        with pytest.raises(DataError, match="no class"):
            kind().certify(model, torch.rand(1, 1, 2, 2), torch.tensor([label]), threat_of(norm))


def test_an_image_size_that_pooling_does_not_divide_is_proven_rightly():
    """Fused with its pooling, the convolution needs rows beyond its padding: a wrong transpose proved what is false."""
    for size in (7, 9):
        for seed in range(4):
            torch.manual_seed(seed)
            side = size // 2
            layers = [
                nn.Conv2d(1, 4, 5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(4 * side**2, 3),
            ]
            model = opened(nn.Sequential(*layers), (1, size, size), 3)
            images = torch.rand(6, 1, size, size)
            labels = model.predict(images).argmax(1)
            for th in (3, 10):
                threat = ThreatModel.at_level(Norm.LINF, th)
                proven = Crown(Crown.Params(seconds=1)).certify(model, images, labels, threat)
                attacked = images.clone()
                for _ in range(40):
                    attacked.requires_grad_(True)
                    scores = model.predict(attacked)
                    own = scores.gather(1, labels[:, None])[:, 0]
                    best = scores.scatter(1, labels[:, None], -torch.inf).amax(1)
                    (slope,) = torch.autograd.grad((best - own).sum(), attacked)
                    step = attacked.detach() + threat.radius / 8 * slope.sign()
                    attacked = torch.clamp(step, images - threat.radius, images + threat.radius).clamp(0, 1)
                    fooled = model.predict(attacked).argmax(1) != labels
                    assert not bool((proven & fooled).any())


def test_large_scores_leave_room_for_their_rounding():
    """Two classes, 784 values, weights of a thousand: float32 is off by more than 1e-4 where the exact margin is 0."""
    generator = torch.Generator().manual_seed(0)
    for scale in (100.0, 1000.0):
        for _ in range(12):
            layer = nn.Linear(784, 2)
            layer.weight.data = torch.randn(2, 784, generator=generator) * scale
            image = torch.rand(1, 1, 28, 28, generator=generator) * 0.6 + 0.2
            slopes = (layer.weight[0] - layer.weight[1]).double().detach()
            least = slopes @ image.flatten().double() - 0.1 * slopes.abs().sum()
            layer.bias.data = torch.stack([-least.float(), torch.zeros(())])  # the least margin of the ball is about 0
            exact = float(least + layer.bias[0].detach().double())
            model = opened(nn.Sequential(nn.Flatten(), layer), (1, 28, 28))
            proven = Crown().certify(model, image, torch.tensor([0]), ThreatModel(norm=Norm.LINF, radius=0.1))
            assert not (bool(proven) and exact < 1e-4), (scale, exact)
