"""The operators of ONNX that compute: products, sums, windows, functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from charpy.bounds.activations import Activation, Relu, Sigmoid, Tanh
from charpy.bounds.affine import Linear, Shape
from charpy.bounds.onnx_values import Value, Values

SEVERAL = frozenset({"Add", "Concat", "Div", "Gemm", "MatMul", "Mul", "Sub", "Sum"})
"""Operators of which any input may depend on the image."""
FAR = 3e38
"""A limit of Clip beyond this one is none: exporters write the largest float32 for it."""


class Operators(Values):
    """One method for each operator, by its name in lower case.

    What depends on the image is the first input only, but for the operators of `SEVERAL`.
    """

    # products and sums

    def _matmul(self, x: Any, y: Any) -> Value:
        factor, value = (y, x) if isinstance(x, Value) else (x, y)
        self._need(not isinstance(factor, Value) and factor.ndim >= 2 and len(value.shape) > 0)
        self._need(prod(factor.shape[:-2]) == 1 and factor.ndim <= max(len(value.shape), 2))
        weight = _tensor(factor.reshape(factor.shape[-2:]))
        if value is x:
            return self._held(self.builder.linear(x.place, weight.T), (*x.shape[:-1], weight.shape[1]))
        if len(y.shape) == 1:
            return self._held(self.builder.linear(y.place, weight), (len(weight),))
        swap = [*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2]  # y's columns are what it is applied to
        columns = self._transpose(y, perm=swap)
        made = self._held(self.builder.linear(columns.place, weight), (*columns.shape[:-1], len(weight)))
        return self._transpose(made, perm=swap)

    def _gemm(
        self, a: Any, b: Any, c: Any = None, *, alpha: float = 1, beta: float = 1, transa: int = 0, transb: int = 0
    ) -> Value:
        self._need(isinstance(a, Value) is not isinstance(b, Value))
        self._need(not isinstance(c, Value) or beta == 1)
        product = self._matmul(self._turned(a, alpha, transa), self._turned(b, alpha, transb))
        return product if c is None else self._add(product, c if isinstance(c, Value) else beta * c)

    def _turned(self, matrix: Any, alpha: float, turn: int) -> Any:
        """The transpose where it is asked for; a constant takes the factor."""
        if isinstance(matrix, Value):
            return self._transpose(matrix) if turn else matrix
        return alpha * (matrix.T if turn else matrix)

    def _add(self, x: Any, y: Any) -> Value:
        return self._combined(x, y, 1)

    def _sub(self, x: Any, y: Any) -> Value:
        return self._combined(x, y, -1)

    def _sum(self, *xs: Any) -> Value:
        total: Value
        total, *others = sorted(xs, key=lambda x: not isinstance(x, Value))  # constants are added to what is none
        for other in others:
            total = self._add(total, other)
        return total

    def _neg(self, x: Value) -> Value:
        return self._scaled(x, -1, 0)

    def _mul(self, x: Any, y: Any) -> Value:
        value, factor = (x, y) if isinstance(x, Value) else (y, x)
        self._need(not isinstance(factor, Value))
        return self._scaled(value, factor, 0)

    def _div(self, x: Any, y: Any) -> Value:
        self._need(not isinstance(y, Value) and bool(np.all(y)))
        return self._scaled(x, 1 / np.float64(y), 0)

    def _combined(self, x: Any, y: Any, sign: int) -> Value:
        if not isinstance(y, Value):
            return self._scaled(x, 1, sign * np.float64(y))
        if not isinstance(x, Value):
            return self._scaled(y, sign, x)
        shape = np.broadcast_shapes(x.shape, y.shape)
        self._need(prod(x.shape) == prod(y.shape) == prod(shape))
        first, second = (self._held(each.place, shape).place for each in (x, y))
        return self._held(self.builder.add(first, second, sign), shape)

    def _scaled(self, x: Value, factor: Any, shift: Any) -> Value:
        """factor * x + shift; right behind a linear operator, they become part of it."""
        shape = np.broadcast_shapes(x.shape, np.shape(factor), np.shape(shift))
        self._need(prod(shape) == prod(x.shape))
        x, by, plus = self._held(x.place, shape), self._constant_row(factor, shape), self._constant_row(shift, shape)
        if bool((by == 1).all()) and not bool(plus.any()):
            return x
        below = self.builder.graph.nodes[x.place]
        if not isinstance(below.op, Linear) or max(by.ndim, plus.ndim) > 1:
            return x._replace(place=self.builder.scale(x.place, by, plus))
        weight = below.op.weight if bool((by == 1).all()) else below.op.weight * by[..., None]
        bias = torch.zeros(len(weight)) if below.op.bias is None else below.op.bias
        return x._replace(place=self.builder.linear(below.inputs[0], weight, by * bias + plus))

    def _constant_row(self, value: Any, shape: Shape) -> torch.Tensor:
        """A constant that is broadcast over `shape`, without its batch axis and the sizes of 1 in front."""
        array = np.asarray(value)
        if array.ndim == len(shape) > len(self._row(shape)):
            if (array != array[:1]).any():
                raise self._refusal("a constant that differs between the images of a batch")
            array = array[0]
        while array.ndim and len(array) == 1:
            array = array[0]
        return _tensor(array)

    def _batchnormalization(
        self,
        x: Value,
        scale: Any,
        bias: Any,
        mean: Any,
        variance: Any,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
        spatial: int = 1,
    ) -> Value:
        self._need(not training_mode and bool(spatial))
        column = (-1, *[1] * (len(x.shape) - 2))
        factor = scale / np.sqrt(variance.astype(np.float64) + epsilon)
        return self._scaled(x, factor.reshape(column), (bias - mean * factor).reshape(column))

    # functions

    def _applied(self, x: Value, function: Activation) -> Value:
        return x._replace(place=self.builder.activation(x.place, function))

    def _relu(self, x: Value) -> Value:
        return self._applied(x, Relu())

    def _leakyrelu(self, x: Value, *, alpha: float = 0.01) -> Value:
        self._need(0 <= alpha <= 1)
        return self._applied(x, Relu(alpha))

    def _prelu(self, x: Value, slope: Any) -> Value:
        self._need(np.unique(slope).size == 1)
        return self._leakyrelu(x, alpha=float(np.ravel(slope)[0]))

    def _sigmoid(self, x: Value) -> Value:
        return self._applied(x, Sigmoid())

    def _tanh(self, x: Value) -> Value:
        return self._applied(x, Tanh())

    def _clip(self, x: Value, low: Any = None, high: Any = None, **limits: float) -> Value:
        """Of a limit each: max(x, low) = low + max(x - low, 0), and min(x, high) = high - max(high - x, 0)."""
        low, high = limits.get("min", low), limits.get("max", high)
        if low is not None and low > -FAR:
            x = self._scaled(self._relu(self._scaled(x, 1, -low)), 1, low)
        if high is not None and high < FAR:
            x = self._scaled(self._relu(self._scaled(x, -1, high)), -1, high)
        return x

    # windows

    def _conv(
        self,
        x: Value,
        weight: Any,
        bias: Any = None,
        *,
        kernel_shape: Sequence[int] = (),
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        group: int = 1,
        auto_pad: str = "NOTSET",
    ) -> Value:
        self._need(self._is_image(x) and weight.ndim == 4)
        place, padding = self._padded(x, _sides(x, weight.shape[2:], strides, dilations, pads, auto_pad))
        shift = None if bias is None else _tensor(bias)
        return self._made(self.builder.conv(place, _tensor(weight), shift, strides, padding, dilations, group))

    def _maxpool(self, x: Value, *, storage_order: int = 0, **window: Any) -> Value:
        kernel, strides, sides = self._window(x, **window)
        below = self.builder.graph.nodes[x.place].op
        # zeros around values change no largest one only where none is negative
        self._need(sides[:2] == sides[2:] or below == Relu())
        place, padding = self._padded(x, sides)
        return self._made(self.builder.max_pool(place, kernel, strides, padding))

    def _averagepool(self, x: Value, *, count_include_pad: int = 0, **window: Any) -> Value:
        kernel, strides, sides = self._window(x, **window)
        place, padding = self._padded(x, sides)
        made = self._made(self.builder.average_pool(place, kernel, strides, padding))
        if count_include_pad or not any(sides):
            return made
        inside = functional.pad(torch.ones(1, *x.shape[2:]), (sides[1], sides[3], sides[0], sides[2]))
        return self._scaled(made, 1 / functional.avg_pool2d(inside, kernel, strides).numpy(), 0)

    def _globalaveragepool(self, x: Value) -> Value:
        return self._reducemean(x, range(2, len(x.shape)))

    def _globalmaxpool(self, x: Value) -> Value:
        return self._maxpool(x, kernel_shape=x.shape[2:])

    def _reducemean(self, x: Value, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Value:
        return self._reduced(x, axes, keepdims, mean=True)

    def _reducesum(self, x: Value, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Value:
        return self._reduced(x, axes, keepdims, mean=False)

    def _reduced(self, x: Value, axes: Any, keep: int, mean: bool) -> Value:
        gone = sorted({int(axis) % len(x.shape) for axis in (() if axes is None else axes)})
        self._need(bool(gone) and 0 not in gone)
        kept = [axis for axis in range(len(x.shape)) if axis not in gone]
        count = prod(x.shape[axis] for axis in gone)
        flat = self._held(self._transpose(x, perm=[*kept, *gone]).place, (*(x.shape[axis] for axis in kept), count))
        place = self.builder.linear(flat.place, torch.full((1, count), 1 / count if mean else 1.0))
        sizes = [(axis in gone, 1 if axis in gone else size) for axis, size in enumerate(x.shape)]
        return self._held(place, [size for lost, size in sizes if keep or not lost])

    def _is_image(self, x: Value) -> bool:
        return len(x.shape) == 4 and x.shape[0] == self.rows

    def _window(
        self,
        x: Value,
        *,
        kernel_shape: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
    ) -> tuple[Shape, Shape, Shape]:
        """The kernel, the strides, and what is padded at top, left, bottom and right."""
        self._need(self._is_image(x) and all(step == 1 for step in dilations))
        sides = _sides(x, kernel_shape, strides, dilations, pads, auto_pad)
        left = [(size + sides[i] + sides[i + 2] - kernel_shape[i]) % strides[i] for i, size in enumerate(x.shape[2:])]
        self._need(not ceil_mode or not any(left))
        return tuple(kernel_shape), tuple(strides), sides

    def _padded(self, x: Value, sides: Shape) -> tuple[int, tuple[int, int]]:
        """The place to start from and the padding of both ends of each dimension; other padding is a node before."""
        top, left, bottom, right = sides
        if (top, left) == (bottom, right):
            return x.place, (top, left)
        return self.builder.pad(x.place, (left, right, top, bottom)), (0, 0)


def _sides(
    x: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    auto_pad: str,
) -> Shape:
    """Top, left, bottom, right."""
    if auto_pad in ("NOTSET", "VALID"):
        return tuple(pads) if auto_pad == "NOTSET" else (0, 0, 0, 0)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    missing = [
        max((ceil(size / step) - 1) * step + span - size, 0)
        for size, step, span in zip(x.shape[2:], strides, spans, strict=True)
    ]
    less, more = [total // 2 for total in missing], [total - total // 2 for total in missing]
    return (*less, *more) if auto_pad == "SAME_UPPER" else (*more, *less)


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32))
