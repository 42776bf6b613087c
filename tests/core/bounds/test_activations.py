"""The lines below and above each activation function, on a dense grid of its interval."""

from __future__ import annotations

import pytest
import torch

from charpy.bounds.activations import Relu, Sigmoid, Tanh

FUNCTIONS = {"relu": Relu(), "leaky": Relu(0.1), "sigmoid": Sigmoid(), "tanh": Tanh()}


def intervals():
    generator = torch.Generator().manual_seed(0)
    ends = (
        torch.randn(400, 2, generator=generator, dtype=torch.float64)
        * torch.tensor([0.01, 0.3, 3.0, 20.0]).repeat(100).double()[:, None]
    )
    low, high = ends.amin(1), ends.amax(1)
    edges = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [2.0, 2.0], [-3.0, -3.0], [-1e-9, 1e-9], [-30.0, 30.0]])
    return torch.cat([low, edges[:, 0].double()]), torch.cat([high, edges[:, 1].double()])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_never_cross_the_function(name):
    function, (low, high) = FUNCTIONS[name], intervals()
    lines = function.lines(low, high)
    for share in torch.linspace(0, 1, 201, dtype=torch.float64):
        x = low + share * (high - low)
        value = function(x)
        assert bool((lines.below * x + lines.below_shift <= value + 1e-9).all()), float(share)
        assert bool((lines.above * x + lines.above_shift >= value - 1e-9).all()), float(share)
    assert bool((lines.below >= 0).all()), "forward propagation relies on it"
    assert bool((lines.above >= 0).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_touch_the_function_somewhere(name):
    """Otherwise they could be moved nearer."""
    function, (low, high) = FUNCTIONS[name], intervals()
    lines = function.lines(low, high)
    grid = low + torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None] * (high - low)
    room = (high - low).clamp_min(1e-3)
    below = (function(grid) - (lines.below * grid + lines.below_shift)).amin(0)
    above = ((lines.above * grid + lines.above_shift) - function(grid)).amin(0)
    assert float((below / room).max()) < 1e-3
    assert float((above / room).max()) < 1e-3


def test_a_stable_relu_is_a_line():
    lines = Relu().lines(torch.tensor([1.0, -2.0]), torch.tensor([3.0, -1.0]))
    assert [line.tolist() for line in lines[:4]] == [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    assert Relu().unstable(torch.tensor([1.0, -2.0, -1.0]), torch.tensor([3.0, -1.0, 1.0])).tolist() == [
        False,
        False,
        True,
    ]
