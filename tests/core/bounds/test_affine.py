"""The transposes of affine operators against automatic differentiation, over random shapes."""

from __future__ import annotations

import random

import pytest
import torch

from charpy.bounds.affine import FEW_CHANNELS, Conv, Windows

NUMBERS = random.Random(5)


def drawn_conv(few: bool) -> tuple[Conv, tuple[int, int, int]]:
    """A convolution of a random shape, and the shape of its input."""
    while True:
        groups = 1 if few else NUMBERS.choice([1, 1, 2, 3])
        before = groups * (NUMBERS.randint(1, FEW_CHANNELS - 1) if few else NUMBERS.randint(8, 10))
        kernel = NUMBERS.randint(1, 6), NUMBERS.randint(1, 6)
        stride = NUMBERS.randint(1, 6), NUMBERS.randint(1, 6)
        padding = NUMBERS.randint(0, 6), NUMBERS.randint(0, 6)
        dilation = (1, 1) if few else (NUMBERS.randint(1, 3), NUMBERS.randint(1, 3))
        size = NUMBERS.randint(1, 13), NUMBERS.randint(1, 13)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        if all(n + 2 * pad >= span for n, pad, span in zip(size, padding, spans, strict=True)):
            weight = torch.randn(groups * NUMBERS.randint(1, 4), before // groups, *kernel, dtype=torch.float64)
            return Conv(weight, None, size, stride, padding, dilation, groups), (before, *size)


def differentiated(op, shape: tuple[int, ...], rows: torch.Tensor) -> torch.Tensor:
    images = torch.zeros(len(rows), *shape, dtype=rows.dtype, requires_grad=True)
    (answer,) = torch.autograd.grad(op.linear(images), images, rows)
    return answer


@pytest.mark.parametrize("few", [True, False], ids=["few channels", "many channels"])
def test_the_transpose_of_a_convolution_is_its_derivative(few):
    torch.manual_seed(0)
    for _ in range(1500 if few else 300):
        op, shape = drawn_conv(few)
        out = op.linear(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
        rows = torch.randn(2, *out, dtype=torch.float64)
        (found,) = op.transpose(rows)
        torch.testing.assert_close(found, differentiated(op, shape, rows), rtol=1e-9, atol=1e-9, msg=str(op)[-300:])


def test_the_transpose_of_windows_is_their_derivative():
    torch.manual_seed(0)
    for _ in range(300):
        kernel, step = ((NUMBERS.randint(1, 4), NUMBERS.randint(1, 4)) for _ in range(2))
        size = NUMBERS.randint(kernel[0], 9), NUMBERS.randint(kernel[1], 9)
        count = ((size[0] - kernel[0]) // step[0] + 1, (size[1] - kernel[1]) // step[1] + 1)
        op = Windows(kernel, step, count, size)
        rows = torch.randn(2, kernel[0] * kernel[1], 3, *count, dtype=torch.float64)
        (found,) = op.transpose(rows)
        torch.testing.assert_close(found, differentiated(op, (3, *size), rows))


def test_no_rows_give_no_rows():
    op, shape = drawn_conv(few=True)
    out = op.linear(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    assert op.transpose(torch.zeros(0, *out, dtype=torch.float64))[0].shape == (0, *shape)
