"""Proofs of few pixels against exhaustive enumeration, the exact answer of linear models, and what cannot be proven."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import Norm, ThreatModel
from charpy_plugins.certifiers.few_pixels import FewPixels
from charpy_plugins.wrappers.torch_module import TorchModel

VALUES = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])


def certify(model, images, labels, th, seconds=20.0):
    certifier = FewPixels(FewPixels.Params(seconds=seconds))
    return certifier.certify(model, images, labels, ThreatModel.at_level(Norm.L0, th))


def tiny(seed: int, pooled: bool = True) -> TorchModel:
    torch.manual_seed(seed)
    body = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else []), nn.Flatten()]
    module = nn.Sequential(*body, nn.Linear(16 if pooled else 64, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        module[-1].weight.mul_(2)
    return TorchModel.from_module(module, input_shape=(1, 4, 4), num_classes=3)


def broken_by_enumeration(model, image, label, count) -> bool:
    """Whether any of all changes of `count` pixels to `VALUES` changes the class."""
    for places in itertools.combinations(range(16), count):
        grid = torch.cartesian_prod(*[VALUES] * count).view(-1, count)
        changed = image.flatten().repeat(len(grid), 1)
        changed[:, list(places)] = grid
        if bool((model.predict(changed.view(-1, 1, 4, 4)).argmax(1) != label).any()):
            return True
    return False


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_proven_is_broken_by_no_enumerated_change(count, pooled):
    decided = proven = 0
    for seed in range(6):
        model, images = tiny(seed, pooled), torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        labels = model.predict(images).argmax(1)
        answers = certify(model, images, labels, count)
        for image, label, answer in zip(images, labels, answers, strict=True):
            broken = broken_by_enumeration(model, image, label, count)
            assert not (broken and bool(answer)), "a proof of what is broken"
            decided += broken or bool(answer)
            proven += bool(answer)
    assert decided >= 27, "nearly everything is decided on images as small as these"
    assert proven >= 3


@pytest.mark.slow
def test_digits_are_decided_as_exhaustive_search_over_every_pixel_and_value_decides():
    """One pixel, all 256 values at all 64 places; two pixels, both black or white."""
    model = registry().create("models", "digits-cnn")
    samples = registry().create("datasets", "digits").read(list(range(24)))
    images = samples.images.float() / 255 if samples.images.dtype == torch.uint8 else samples.images
    right = model.predict(images).argmax(1) == samples.labels
    images, labels = images[right], samples.labels[right]
    one, two = (certify(model, images, labels, th) for th in (1, 2))
    corners = torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    pairs = torch.tensor(list(itertools.combinations(range(64), 2)))
    for image, label, by_one, by_two in zip(images, labels, one, two, strict=True):
        changed = image.flatten().repeat(64, 256, 1)
        changed[torch.arange(64), :, torch.arange(64)] = torch.arange(256) / 255
        found = (model.predict(changed.view(-1, 1, 8, 8)).argmax(1) != label).any()
        assert bool(by_one) == (not bool(found)), "decided either way"
        changed = image.flatten().repeat(len(pairs), 4, 1)
        changed.scatter_(2, pairs[:, None].expand(-1, 4, -1), corners.expand(len(pairs), -1, -1))
        if bool((model.predict(changed.view(-1, 1, 8, 8)).argmax(1) != label).any()):
            assert not bool(by_two)
    assert 0 < int(one.sum()) < len(one)


def test_double_precision_decides_the_same():
    model, images = tiny(2), torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(9))
    labels, threat = model.predict(images).argmax(1), ThreatModel.at_level(Norm.L0, 1)
    single, double = (
        FewPixels(FewPixels.Params(float64=wide)).certify(model, images, labels, threat) for wide in (0, 1)
    )
    assert single.tolist() == double.tolist()
    assert model.module[0].weight.dtype == torch.float32, "the model is left as it is"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_model_is_proven_up_to_its_exact_number_of_pixels(channels):
    generator = torch.Generator().manual_seed(2)
    bias = torch.tensor([6.0 * channels, 0.0, 0.0, 0.0])
    model = LinearClassifier(torch.randn(4, channels, 3, 3, generator=generator), bias)
    images = torch.rand(12, channels, 3, 3, generator=generator)
    labels = model.predict(images).argmax(1)
    smallest = model.smallest(Norm.L0, images, labels)
    for th in (1, 2, 3):
        assert certify(model, images, labels, th).tolist() == (smallest > th).tolist()
    assert len(set(smallest.tolist())) > 1


def test_every_pixel_may_change_where_the_level_is_beyond_the_image():
    model = LinearClassifier(torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 0.0]))
    images = torch.rand(2, 1, 2, 2)
    assert certify(model, images, torch.tensor([0, 1]), 127).tolist() == [True, False]


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_pixels_at_the_ends_of_their_range(edge):
    model = LinearClassifier(torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)]), torch.tensor([0.0, 1.5]))
    images = torch.full((1, 1, 2, 2), edge)  # the sum is 4 or 0, class 0 above 1.5
    label = model.predict(images).argmax(1)
    proven = [bool(certify(model, images, label, th)) for th in (1, 2, 3)]
    assert proven == ([True, True, False] if edge else [True, False, False])


def test_ties_and_duplicated_classes_are_not_proven():
    weight = torch.randn(1, 1, 3, 3).repeat(2, 1, 1, 1)
    model = LinearClassifier(torch.cat([weight, torch.zeros(1, 1, 3, 3)]), torch.tensor([5.0, 5.0, 0.0]))
    images = torch.rand(3, 1, 3, 3)
    assert not certify(model, images, torch.zeros(3, dtype=torch.int64), 1).any()


def test_a_wrong_label_is_not_proven():
    model = tiny(0)
    images = torch.rand(4, 1, 4, 4)
    assert not certify(model, images, (model.predict(images).argmax(1) + 1) % 3, 1).any()


def test_no_time_proves_nothing_that_needs_a_search():
    model, images = tiny(1), torch.rand(3, 1, 4, 4)
    labels = model.predict(images).argmax(1)
    assert not certify(model, images, labels, 2, seconds=1e-9).any()


def test_probabilities_are_certified_as_their_logits():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model = TorchModel.from_module(module, input_shape=(1, 4, 4), num_classes=3)
    images = torch.rand(6, 1, 4, 4)
    labels = model.predict(images).argmax(1)
    assert FewPixels().supports(model, ThreatModel.at_level(Norm.L0, 1)) == ""
    exact = LinearClassifier(module[1].weight.detach().view(3, 1, 4, 4), module[1].bias.detach())
    assert certify(model, images, labels, 1).tolist() == (exact.smallest(Norm.L0, images, labels) > 1).tolist()


def test_a_model_that_shows_no_network_is_refused_with_the_reason():
    model = LinearClassifier(torch.randn(2, 1, 2, 2), output=Output.LABELS)
    assert "shows no network" in FewPixels().supports(model, ThreatModel.at_level(Norm.L0, 1))
