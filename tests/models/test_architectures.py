"""Architectures: shapes, sizes counted by hand, and normalisation inside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from charpy.errors import SpecError
from charpy_models.architectures.digits_cnn import DigitsCNN
from charpy_models.architectures.lenet import LeNet
from charpy_models.architectures.normalise import Normalise
from charpy_models.architectures.resnet8 import ResNet8
from charpy_models.architectures.small_cnn import SmallCNN

# (network, image shape, classes, sizes of its layers counted by hand: outputs * (inputs + 1))
CASES = [
    pytest.param(DigitsCNN, {}, (1, 8, 8), 10, [160, 4_640, 32_832, 650], id="digits"),
    pytest.param(
        DigitsCNN,
        {"in_channels": 3, "num_classes": 4, "image_size": 12, "widths": (2, 5), "hidden": 7},
        (3, 12, 12), 4, [2 * 28, 5 * 19, 7 * (5 * 36 + 1), 4 * 8], id="digits-sized",
    ),
    # 156, 48,120 and 10,164 are the paper's own figures for C1, C5 and F6; C3 is fully connected here: 16 * 151.
    pytest.param(LeNet, {}, (1, 28, 28), 10, [156, 2_416, 48_120, 10_164, 850], id="lenet-5"),
    pytest.param(
        LeNet, {"in_channels": 3, "image_size": 32, "padding": 0},
        (3, 32, 32), 10, [6 * 76, 2_416, 48_120, 10_164, 850], id="lenet-5-colour",
    ),
    pytest.param(
        LeNet, {"num_classes": 3, "widths": (2, 4), "hidden": (9, 8)},
        (1, 28, 28), 3, [2 * 26, 4 * 51, 9 * 101, 8 * 10, 3 * 9], id="lenet-sized",
    ),
    pytest.param(SmallCNN, {}, (3, 32, 32), 10, [896, 18_496, 55_392, 196_736, 1_290], id="small"),
    pytest.param(
        SmallCNN,
        {"in_channels": 1, "num_classes": 2, "image_size": 20, "widths": (3, 5), "hidden": 6,
         "mean": (0.5,), "std": (0.5,)},
        (1, 20, 20), 2, [3 * 10, 5 * 28, 6 * 126, 2 * 7], id="small-sized",
    ),
    # A block: two 3x3 convolutions, two numbers a channel for each normalisation; a projection adds 1x1 weights.
    pytest.param(
        ResNet8, {}, (3, 32, 32), 10,
        [16 * 27 + 32, 2 * (16 * 144 + 32), 32 * (144 + 288 + 16) + 3 * 64, 64 * (288 + 576 + 32) + 3 * 128, 10 * 65],
        id="resnet-8",
    ),
    pytest.param(
        ResNet8, {"in_channels": 1, "num_classes": 4, "widths": (3, 5), "mean": (0.5,), "std": (0.5,)},
        (1, 9, 9), 4, [3 * 9 + 6, 2 * (3 * 27 + 6), 5 * (27 + 45 + 3) + 3 * 10, 4 * 6], id="resnet-8-sized",
    ),
]  # fmt: skip
NETWORKS = (partial(DigitsCNN, image_size=28), LeNet, partial(SmallCNN, image_size=28), ResNet8)


@pytest.mark.parametrize(("network", "keywords", "shape", "classes", "layers"), CASES)
def test_shape_and_size(network, keywords, shape, classes, layers):
    module = network(**keywords)
    assert module(torch.rand(3, *shape)).shape == (3, classes)
    assert sum(parameter.numel() for parameter in module.parameters()) == sum(layers)


@pytest.mark.parametrize("network", NETWORKS)
def test_images_are_normalised_inside(network):
    channels = 3
    module = network(in_channels=channels, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125)).eval()
    images = torch.rand(2, channels, 28, 28)
    by_hand = (images.numpy() - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 0.125])[:, None, None]
    expected = module.classifier(module.features(torch.from_numpy(by_hand).float()))
    torch.testing.assert_close(module(images), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_normalisation_is_stored_but_not_trained(network):
    module = network(mean=(0.25,), std=(0.75,))
    state = module.state_dict()
    assert set(state["normalise.mean"].flatten().tolist()) == {0.25}
    assert set(state["normalise.std"].flatten().tolist()) == {0.75}
    assert not any(name.startswith("normalise") for name, _ in module.named_parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_row_does_not_depend_on_its_batch(network):
    module = network(in_channels=1, mean=(0.5,), std=(0.5,)).eval()
    images = torch.rand(5, 1, 28, 28)
    alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(module(images), alone)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [((0.1, 0.2), (1.0,), "2 values"), ((0.0,), (1.0,) * 4, "4 values"), ((0.0,), (0.0,), "positive")],
)
def test_normalisation_that_does_not_fit_is_refused(mean, std, words):
    with pytest.raises(SpecError, match=words):
        Normalise(3, mean, std)


def test_a_residual_block_adds_what_it_is_given():
    module = ResNet8().eval()
    block = module.features[3]
    with torch.no_grad():
        for parameter in block.residual.parameters():
            parameter.zero_()
    maps = torch.rand(2, 16, 6, 6)
    assert torch.equal(block(maps), maps)


def test_each_residual_block_but_the_first_halves_the_maps():
    maps = ResNet8().eval().features[:-1](torch.rand(2, 3, 32, 32))
    assert maps.shape == (2, 64, 8, 8)
