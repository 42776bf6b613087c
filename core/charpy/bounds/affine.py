"""The affine operators of a graph: what they compute, how far they spread, and their transpose.

Every tensor has one leading dimension (images, boxes, or rows of a specification) before the operator's own shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from typing_extensions import override

Shape = tuple[int, ...]
Tensors = Sequence[torch.Tensor]

FEW_CHANNELS = 8
"""Into fewer channels, transposed convolutions are slow on CPUs; a convolution that does the same is not."""


class Affine(ABC):
    """y = L(x1, x2, ...) + constant, L linear."""

    constant: torch.Tensor | None = None
    """Of the shape of y, or one that broadcasts to it; None for 0."""

    @abstractmethod
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        """L of the inputs."""

    @abstractmethod
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        """|L| of the inputs: L with the absolute values of its coefficients."""

    @abstractmethod
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """L^T of rows `(M, *shape of y)`, one for each input."""

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """y."""
        answer = self.linear(*inputs)
        return answer if self.constant is None else answer + self.constant

    def to(self, like: torch.Tensor) -> None:
        """Take the device and precision of `like`."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(self, name, value.to(like.device, like.dtype))


@dataclass
class Linear(Affine):
    """W x + b over the last dimension; weight `(out, in)`."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.constant = self.bias

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] @ self.weight.T

    @override
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] @ self.weight.abs().T

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (rows @ self.weight,)


@dataclass
class Conv(Affine):
    """A two-dimensional convolution; weight `(out, in / groups, h, w)`, `size` the height and width of its input."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        self.constant = None if self.bias is None else self.bias[:, None, None]

    def _conv(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(images, weight, None, self.stride, self.padding, self.dilation, self.groups)

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._conv(inputs[0], self.weight)

    @override
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._conv(inputs[0], self.weight.abs())

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.groups == 1 and self.dilation == (1, 1) and self.weight.shape[1] < FEW_CHANNELS:
            return (self._as_convolution(rows),)
        missing = [
            size - ((out - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1)
            for size, out, stride, pad, dilation, kernel in zip(
                self.size,
                rows.shape[-2:],
                self.stride,
                self.padding,
                self.dilation,
                self.weight.shape[-2:],
                strict=True,
            )
        ]
        back = functional.conv_transpose2d(
            rows,
            self.weight,
            None,
            self.stride,
            self.padding,
            (missing[0], missing[1]),
            self.groups,
            self.dilation,
        )
        return (back,)

    def _as_convolution(self, rows: torch.Tensor) -> torch.Tensor:
        """The transpose as a convolution of stride 1 that computes all s_h s_w places between two steps as channels.

        Shi et al. 2016, Is the deconvolution layer the same as a convolutional layer?
        """
        (down, across), (high, wide) = self.stride, self.weight.shape[-2:]
        taps = math.ceil(high / down), math.ceil(wide / across)
        padded = functional.pad(self.weight, (0, taps[1] * across - wide, 0, taps[0] * down - high))
        kernel = padded.view(*padded.shape[:2], taps[0], down, taps[1], across).permute(1, 3, 5, 0, 2, 4)
        kernel = kernel.flatten(0, 2).flip(2, 3)  # (channels and places, rows' channels, tap, tap)
        # Place p of the result is place (p + pad) % step of block (p + pad) // step: from the first to the last block.
        firsts = [pad // step for pad, step in zip(self.padding, self.stride, strict=True)]
        lasts = [(n - 1 + pad) // step for n, pad, step in zip(self.size, self.padding, self.stride, strict=True)]
        (top, left), (below, right) = (
            [tap - 1 - first for tap, first in zip(taps, firsts, strict=True)],
            [last - count + 1 for last, count in zip(lasts, rows.shape[2:], strict=True)],
        )
        maps = functional.conv2d(functional.pad(rows, (left, right, top, below)), kernel)
        places = maps.view(len(rows), self.weight.shape[1], down, across, *maps.shape[2:]).permute(0, 1, 4, 2, 5, 3)
        whole = places.reshape(len(rows), self.weight.shape[1], maps.shape[2] * down, maps.shape[3] * across)
        y, x = (pad - first * step for pad, first, step in zip(self.padding, firsts, self.stride, strict=True))
        return whole[:, :, y : y + self.size[0], x : x + self.size[1]]


@dataclass
class Scale(Affine):
    """factor * x + shift, value by value; both broadcast over the shape of x."""

    factor: torch.Tensor
    constant: torch.Tensor | None = None

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] * self.factor

    @override
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] * self.factor.abs()

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (rows * self.factor,)


@dataclass
class Sum(Affine):
    """x1 + x2, or x1 - x2 with sign -1; both of one shape."""

    sign: int = 1

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] + inputs[1] if self.sign > 0 else inputs[0] - inputs[1]

    @override
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] + inputs[1]

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return rows, rows * self.sign


class Move(Affine):
    """An operator that only moves values: its absolute value is itself."""

    @override
    def spread(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(*inputs)


@dataclass
class Reshape(Move):
    """From `before` to `after`, in row-major order."""

    before: Shape
    after: Shape

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0].reshape(-1, *self.after)

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (rows.reshape(-1, *self.before),)


@dataclass
class Permute(Move):
    """Dimensions in another order; `order` counts without the leading one."""

    order: Shape

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0].permute(0, *(axis + 1 for axis in self.order))

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return (rows.permute(0, *(axis + 1 for axis in back)),)


@dataclass
class Pad(Move):
    """Zeros around the last two dimensions: left, right, top, bottom. Another value is a shift after it."""

    pads: tuple[int, int, int, int]

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return functional.pad(inputs[0], self.pads)

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (functional.pad(rows, tuple(-pad for pad in self.pads)),)


@dataclass
class Windows(Move):
    """From `(C, H, W)` to `(k, C, h, w)`: the k values of every window, side by side.

    Attributes:
        kernel, step, count: height and width of a window, from one to the next, and how many.
        size: (H, W).
    """

    kernel: tuple[int, int]
    step: tuple[int, int]
    count: tuple[int, int]
    size: tuple[int, int]

    def _places(self) -> list[tuple[slice, slice]]:
        first, second = (
            [slice(start, start + step * (count - 1) + 1, step) for start in range(span)]
            for span, step, count in zip(self.kernel, self.step, self.count, strict=True)
        )
        return [(rows, columns) for rows in first for columns in second]

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([inputs[0][(..., *place)] for place in self._places()], 1)

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        back = torch.zeros(len(rows), rows.shape[2], *self.size, dtype=rows.dtype, device=rows.device)
        for number, place in enumerate(self._places()):
            back[(..., *place)] += rows[:, number]
        return (back,)


@dataclass
class Concat(Move):
    """Joined along `axis` (without the leading dimension), in pieces of `lengths`."""

    axis: int
    lengths: tuple[int, ...]

    @override
    def linear(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(tuple(inputs), dim=self.axis + 1)

    @override
    def transpose(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.split(rows, list(self.lengths), dim=self.axis + 1)


def size_of(shape: Shape) -> int:
    """How many values a shape holds."""
    return math.prod(shape)
