"""Architectures: shapes, sizes counted by hand, and normalisation inside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from charpy.errors import SpecError
from charpy_models.architectures.all_conv import AllConv
from charpy_models.architectures.c4 import C4
from charpy_models.architectures.capsnet import CapsNet
from charpy_models.architectures.densenet import DenseLayer, DenseNet
from charpy_models.architectures.digits_cnn import DigitsCNN
from charpy_models.architectures.lenet import LeNet
from charpy_models.architectures.nin import NIN
from charpy_models.architectures.normalise import Normalise
from charpy_models.architectures.resnet import ResNet
from charpy_models.architectures.small_cnn import SmallCNN
from charpy_models.architectures.start import he_normal
from charpy_models.architectures.wide_resnet import PreActivationBlock, WideResNet
from charpy_models.classifier_training import training_loss

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
        ResNet, {"blocks": 1}, (3, 32, 32), 10,
        [16 * 27 + 32, 2 * (16 * 144 + 32), 32 * (144 + 288 + 16) + 3 * 64, 64 * (288 + 576 + 32) + 3 * 128, 10 * 65],
        id="resnet-8",
    ),
    pytest.param(
        ResNet,
        {"in_channels": 1, "num_classes": 4, "blocks": 1, "widths": (3, 5), "mean": (0.5,), "std": (0.5,)},
        (1, 9, 9), 4, [3 * 9 + 6, 2 * (3 * 27 + 6), 5 * (27 + 45 + 3) + 3 * 10, 4 * 6], id="resnet-8-sized",
    ),
    # table 1 of the paper: two stages of 3x3 convolutions, one more, and two 1x1 ones
    pytest.param(
        AllConv, {}, (3, 32, 32), 10,
        [96 * 28, 2 * 96 * 865, 192 * 865, 3 * 192 * 1_729, 192 * 193, 10 * 193], id="all-cnn-c",
    ),
    pytest.param(
        AllConv, {"in_channels": 1, "num_classes": 4, "widths": (2, 3), "mean": (0.5,), "std": (0.5,)},
        (1, 28, 28), 4, [2 * 10, 2 * 2 * 19, 3 * 19, 3 * 3 * 28, 3 * 4, 4 * 4], id="all-cnn-sized",
    ),
    pytest.param(
        NIN, {}, (3, 32, 32), 10,
        [192 * 76, 160 * 193, 96 * 161, 192 * 2_401, 2 * 192 * 193, 192 * 1_729, 192 * 193, 10 * 193], id="nin",
    ),
    pytest.param(
        NIN,
        {"in_channels": 1, "num_classes": 4, "widths": ((2, 3, 4), (5, 6), (7,)), "mean": (0.5,), "std": (0.5,)},
        (1, 28, 28), 4, [2 * 26, 3 * 3, 4 * 4, 5 * 101, 6 * 6, 7 * 55, 4 * 8], id="nin-sized",
    ),
    # 64 kernels of 8x8, 128 of 6x6x64 and 128 of 5x5x128, one place left
    pytest.param(C4, {}, (1, 28, 28), 10, [64 * 65, 128 * 2_305, 128 * 3_201, 10 * 129], id="c4"),
    pytest.param(
        C4, {"in_channels": 3, "num_classes": 4, "image_size": 32, "widths": (2, 3, 4)},
        (3, 32, 32), 4, [2 * 193, 3 * 73, 4 * 76, 4 * (4 * 4 + 1)], id="c4-colour",
    ),
    # section 4 of the paper; 1,152 capsules with ten 8x16 matrices each
    pytest.param(CapsNet, {}, (1, 28, 28), 10, [256 * 82, 256 * (256 * 81 + 1), 1_152 * 10 * 8 * 16], id="capsnet"),
    pytest.param(
        CapsNet,
        {"in_channels": 3, "num_classes": 4, "image_size": 32, "width": 5, "kinds": 2, "size": 3, "class_size": 6,
         "kernel": 5, "strides": (2, 3)},
        (3, 32, 32), 4, [5 * 76, 6 * 126, 2 * 16 * 4 * 3 * 6], id="capsnet-colour",
    ),
    pytest.param(
        WideResNet, {"depth": 10, "widen": 2, "base": 3, "in_channels": 1, "mean": (0.5,), "std": (0.5,)},
        (1, 28, 28), 10,
        [27, 2 * 3 + 6 * 27 + 2 * 6 + 6 * 54 + 6 * 3, 2 * 6 + 12 * 54 + 2 * 12 + 12 * 108 + 12 * 6,
         2 * 12 + 24 * 108 + 2 * 24 + 24 * 216 + 24 * 12, 2 * 24 + 10 * 25],
        id="wrn-10-2",
    ),
    # a layer on m maps: 2 m + 4 k m + 8 k + 36 k^2; k = 2; m = 4, 6 | 4 (of 8), 6
    pytest.param(
        DenseNet, {"in_channels": 1, "growth": 2, "layers": (2, 2), "mean": (0.5,), "std": (0.5,)},
        (1, 28, 28), 10,
        [4 * 9, 10 * 4 + 160, 10 * 6 + 160, 2 * 8 + 8 * 4, 10 * 4 + 160, 10 * 6 + 160, 2 * 8 + 10 * 9], id="dense-bc",
    ),
]  # fmt: skip
NETWORKS = (
    partial(DigitsCNN, image_size=28),
    LeNet,
    partial(SmallCNN, image_size=28),
    ResNet,
    partial(AllConv, widths=(8, 16)),
    partial(NIN, widths=((8, 8), (8,), (8,))),
    partial(WideResNet, depth=10, widen=1),
    partial(DenseNet, layers=(2, 2)),
    partial(CapsNet, width=8, kinds=2),
    partial(C4, widths=(8, 8, 8)),
)


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
    module = ResNet().eval()
    block = module.features[3]
    with torch.no_grad():
        for parameter in block.residual.parameters():
            parameter.zero_()
    maps = torch.rand(2, 16, 6, 6)
    assert torch.equal(block(maps), maps)


def test_each_stage_but_the_first_halves_the_maps():
    maps = ResNet(blocks=2).eval().features[:-1](torch.rand(2, 3, 32, 32))
    assert maps.shape == (2, 64, 8, 8)


# Parameters in millions, as the papers print them, and exactly, as counted from their tables by hand:
# ResNet, 6 n + 2 layers (He et al., table 6); wide ones (table 4 and 5); DenseNet-BC (table 2).
PAPERS = [
    *(
        (ResNet, {"blocks": n}, printed, 464 + n * 4_672 + 14_528 + (n - 1) * 18_560 + 57_728 + (n - 1) * 73_984 + 650)
        for n, printed in ((3, 0.27), (5, 0.46), (7, 0.66), (9, 0.85), (18, 1.7))
    ),
    (WideResNet, {"depth": 28, "widen": 10}, 36.5, 36_479_194),
    (WideResNet, {"depth": 40, "widen": 4}, 8.9, 8_949_210),
    (WideResNet, {"depth": 40, "widen": 1}, 0.6, None),
    (WideResNet, {"depth": 16, "widen": 8}, 11.0, None),
    (DenseNet, {}, 0.8, 769_162),
    (AllConv, {}, 1.4, None),
    (NIN, {}, 0.97, None),
    (CapsNet, {}, 6.8, None),
]


@pytest.mark.parametrize(("network", "keywords", "printed", "exactly"), PAPERS)
def test_sizes_are_the_papers(network, keywords, printed, exactly):
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in network(**keywords).parameters())
    decimals = len(str(printed).partition(".")[2])
    projections = 16 * 32 + 64 + 32 * 64 + 128 if network is ResNet else 0  # the paper's skips have no weights
    assert round((count - projections) / 1e6, decimals) == printed
    assert exactly in (None, count)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("network", [ResNet, AllConv, NIN, DenseNet, CapsNet, C4, partial(WideResNet, widen=1)])
def test_both_sizes_of_image(network, shape):
    sized = {"image_size": shape[1]} if network in (CapsNet, C4) else {}
    module = network(in_channels=shape[0], num_classes=7, mean=(0.5,), std=(0.5,), **sized)
    assert module(torch.rand(2, *shape)).shape == (2, 7)


def test_all_convolutional_means_no_pooling_and_no_layer_for_one_size():
    module = AllConv()
    assert not any(isinstance(part, torch.nn.MaxPool2d | torch.nn.Linear) for part in module.modules())
    assert module.eval().features(torch.rand(1, 3, 32, 32)).shape == (1, 192, 6, 6)  # the paper's 6x6


def test_dropout_is_for_training_only_and_has_an_effect():
    images = torch.rand(2, 3, 32, 32)
    for network in (AllConv, NIN, partial(WideResNet, depth=10, widen=1, dropout=0.5)):
        module = network()
        assert not torch.equal(module(images), module(images))
        assert torch.equal(module.eval()(images), module(images))


def test_he_weights_keep_the_size_of_what_passes():
    layers = [torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.ReLU()) for _ in range(6)]
    module = torch.nn.Sequential(*layers)
    he_normal(module)
    start = torch.randn(4, 64, 16, 16)
    inner = module(start)[:, :, 6:-6, 6:-6].detach()  # away from the zeros of the padding
    assert 0.3 < float((inner**2).mean()) < 3  # torch's own first weights: 6**-6
    assert all(bool((layer[0].bias == 0).all()) for layer in layers)


@pytest.mark.parametrize("depth", [4, 12, 27, 0, -2])
def test_a_depth_that_no_wide_network_has_is_refused(depth):
    with pytest.raises(SpecError, match="6 n"):
        WideResNet(depth=depth)


def test_a_pre_activation_block_adds_to_what_it_is_given_untouched():
    block = PreActivationBlock(4, 4, 1, 0.0).eval()
    with torch.no_grad():
        block.residual[-1].weight.zero_()
    maps = torch.randn(2, 4, 6, 6)  # half of them negative: no ReLU on the skip
    assert torch.equal(block(maps), maps)
    assert PreActivationBlock(4, 8, 2, 0.0)(maps).shape == (2, 8, 3, 3)


def test_wide_stages_halve_the_maps_and_widen_them():
    maps = WideResNet(depth=16, widen=2, base=4).eval().features[:-3](torch.rand(1, 3, 32, 32))
    assert maps.shape == (1, 4 * 4 * 2, 8, 8)


def test_a_dense_layer_keeps_what_it_is_given_and_adds_growth_maps():
    maps = torch.randn(2, 6, 5, 5)
    out = DenseLayer(6, 3)(maps)
    assert out.shape == (2, 9, 5, 5)
    assert torch.equal(out[:, :6], maps)


def test_channels_of_a_dense_network():
    """2 k; each layer adds k; between two blocks, theta of them stay, and H and W are halved."""
    module = DenseNet(growth=12, layers=(3, 2, 4), compression=0.5).eval()
    shapes, maps = [], torch.rand(1, 3, 32, 32)
    for part in module.features[:-3]:
        maps = part(maps)
        if isinstance(part, DenseLayer | torch.nn.AvgPool2d):
            shapes.append((maps.shape[1], maps.shape[2]))
    first = [(36, 32), (48, 32), (60, 32)]
    second = [(30, 16), (42, 16), (54, 16)]
    third = [(27, 8), (39, 8), (51, 8), (63, 8), (75, 8)]
    assert shapes == first + second + third


def test_a_network_says_what_it_is_trained_with():
    scores, labels = torch.randn(5, 10), torch.arange(5)
    assert training_loss(CapsNet(width=8, kinds=2)) is CapsNet.loss
    expected = torch.nn.functional.cross_entropy(scores, labels)
    assert torch.equal(training_loss(LeNet())(scores, labels), expected)
