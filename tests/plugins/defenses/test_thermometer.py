"""Thermometer encoding: the paper's example, the surrogate's slope, the shapes."""

from __future__ import annotations

import pytest
import torch

from charpy.errors import ModelError
from charpy.plugins import registry
from charpy.preflight import preflight
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access
from charpy_plugins.defenses.thermometer import Thermometer


def thermometer(levels):
    return Thermometer(Thermometer.Params(levels=levels))


def model_of(levels, channels=2):
    weight = torch.randn(3, channels * levels, 4, 5, generator=torch.Generator().manual_seed(0))
    return LinearClassifier(weight)


def test_it_encodes_as_published():
    """tau(0.66) = 1111110000 with ten levels (Athalye, Carlini & Wagner 2018, section 5.1.1)."""
    assert registry().load("defenses", "thermometer") is Thermometer
    code = thermometer(10).transform(torch.full((1, 1, 1, 1), 0.66))
    assert "".join(str(int(value)) for value in code.flatten()) == "1111110000"


def test_channels_stay_together():
    images = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    codes = thermometer(8).transform(images).view(6, 3, 8, 4, 5)
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(codes.sum(2), (images * 8).ceil().sub(1).clamp_min(0))
    assert (codes.diff(dim=2) <= 0).all()
    assert thermometer(8).transform(torch.ones(1, 1, 1, 1)).sum() == 7
    assert thermometer(8).transform(torch.zeros(1, 1, 1, 1)).sum() == 0


def test_gradients_are_those_of_a_ramp_around_each_level():
    """min(max(x - k / l + 1/2, 0), 1): each level nearer than 1/2 passes its gradient."""
    base, images = model_of(6), torch.rand(5, 2, 4, 5, generator=torch.Generator().manual_seed(3))
    model = thermometer(6).wrap(base)
    leaf = images.clone().requires_grad_(True)
    found = torch.autograd.grad(model.predict(leaf)[:, 1].sum(), leaf)[0]
    weight = base.weight[1].view(2, 6, 4, 5)
    expected = torch.zeros_like(images)
    for level in range(1, 7):
        expected += weight[:, level - 1] * ((images - level / 6).abs() < 0.5)
    torch.testing.assert_close(found, expected)
    assert torch.equal(model.predict(images), base.predict(thermometer(6).transform(images)))


def test_black_and_white_have_a_gradient():
    """Where the published stand-in has none: a model that asks how much ink there is can be led to a black pixel."""
    model = thermometer(4).wrap(LinearClassifier(torch.stack([torch.zeros(4, 1, 2), torch.ones(4, 1, 2)])))
    leaf = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    found = torch.autograd.grad(model.predict(leaf)[:, 1].sum(), leaf)[0]
    assert (found >= 1).all()


def test_the_model_outside_takes_images():
    model = thermometer(6).wrap(model_of(6))
    assert model.input_shape == (2, 4, 5)
    found = preflight(model, torch.rand(20, 2, 4, 5, generator=torch.Generator().manual_seed(4)))
    assert found.access is Access.GRADIENTS
    assert found.batch_invariant


def test_a_model_of_other_codes_is_refused():
    with pytest.raises(ModelError, match=r"found: +\(C, H, W\) = \(12, 4, 5\)"):
        thermometer(5).wrap(model_of(6))
