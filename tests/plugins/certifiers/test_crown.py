"""CROWN proofs against the exact distances of linear models, dense sampling, and attacks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from charpy.testing.linear import LinearClassifier
from charpy.threat import Norm, ThreatModel
from charpy_plugins.certifiers.crown import Crown
from charpy_plugins.wrappers.torch_module import TorchModel

GENERATOR = torch.Generator().manual_seed(4)


def certify(model, images, labels, norm, radius, **params):
    return Crown(Crown.Params(**params)).certify(model, images, labels, ThreatModel(norm=norm, radius=radius))


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, Norm.L1])
def test_a_linear_model_is_proven_up_to_its_exact_distance(norm):
    generator = torch.Generator().manual_seed(4)
    model = LinearClassifier(torch.randn(4, 2, 3, 3, generator=generator) * 3)
    images = torch.rand(40, 2, 3, 3, generator=generator) * 0.2 + 0.4
    labels = model.predict(images).argmax(1)
    near = model.smallest(norm, images, labels) < 0.4  # the box cuts nothing so near: in a corner bounds are not exact
    images, labels = images[near][:10], labels[near][:10]
    assert len(images) == 10
    for image, label, smallest in zip(images, labels, model.smallest(norm, images, labels).tolist(), strict=True):
        one, its = image[None], label[None]
        assert bool(certify(model, one, its, norm, 0.99 * smallest, slack=1e-6))
        assert not bool(certify(model, one, its, norm, 1.001 * smallest))


def small(seed: int) -> TorchModel:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10), nn.Tanh(), nn.Linear(10, 3)
    )
    return TorchModel.from_module(module, input_shape=(1, 8, 8), num_classes=3)


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, Norm.L1])
def test_what_is_proven_is_broken_by_no_sample_of_the_ball(norm):
    size = {Norm.LINF: 0.05, Norm.L2: 0.4, Norm.L1: 1.5}[norm]
    proven = 0
    for seed in range(5):
        model, images = small(seed), torch.rand(4, 1, 8, 8, generator=GENERATOR)
        labels = model.predict(images).argmax(1)
        for radius in (0.0, size / 8, size, 4 * size):
            answers = certify(model, images, labels, norm, radius, seconds=0.1)
            proven += int(answers.sum())
            step = torch.randn(2000, 1, 1, 8, 8, generator=GENERATOR).sign() * torch.rand(2000, 1, 1, 1, 1)
            length = {Norm.LINF: step.abs().amax((2, 3, 4)), Norm.L2: step.flatten(2).norm(dim=2),
                      Norm.L1: step.abs().sum((2, 3, 4))}[norm]  # fmt: skip
            inside = (images + radius * step / length[..., None, None, None]).clamp(0, 1)
            same = (model.predict(inside.flatten(0, 1)).argmax(1).view(2000, 4) == labels).all(0)
            assert not bool((answers & ~same).any())
            if radius == 0:
                assert bool(answers.all()), "a point"
    assert proven > 25


def test_more_time_proves_no_less():
    proven = [0, 0]
    for seed in range(10):
        model, images = small(seed), torch.rand(4, 1, 8, 8, generator=GENERATOR)
        labels = model.predict(images).argmax(1)
        for i, params in enumerate(({"seconds": 0.0, "steps": 0}, {"seconds": 60.0})):
            proven[i] += int(certify(model, images, labels, Norm.LINF, 0.04, **params).sum())
    assert proven[1] >= proven[0]


def test_ties_and_wrong_labels_are_not_proven():
    model = LinearClassifier(torch.zeros(2, 1, 2, 2))
    images = torch.rand(2, 1, 2, 2)
    assert not certify(model, images, torch.zeros(2, dtype=torch.int64), Norm.LINF, 0.0).any()
    sure = LinearClassifier(torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 0.0]))
    assert certify(sure, images, torch.tensor([0, 1]), Norm.LINF, 1.0).tolist() == [True, False]


def test_samples_of_one_call_are_proven_as_they_are_alone():
    model, images = small(7), torch.rand(12, 1, 8, 8, generator=GENERATOR)
    labels = model.predict(images).argmax(1)
    for radius in (0.02, 0.05, 0.1):
        together = certify(model, images, labels, Norm.LINF, radius, seconds=60)
        alone = [
            certify(model, image[None], label[None], Norm.LINF, radius, seconds=60)
            for image, label in zip(images, labels, strict=True)
        ]
        assert together.tolist() == torch.cat(alone).tolist()
        if radius == 0.05:
            assert 0 < int(together.sum()) < 12, "some are open and some are not"
