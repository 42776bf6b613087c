"""A network as a graph of affine operators and activations; the builder that both front ends (torch, ONNX) use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from charpy.bounds.activations import Activation, Largest, Relu
from charpy.bounds.affine import Affine, Concat, Conv, Linear, Pad, Permute, Reshape, Scale, Shape, Sum, Windows
from charpy.errors import CharpyError


class UnsupportedError(CharpyError):
    """The network has an operator that bounds cannot be propagated through."""


@dataclass(frozen=True)
class Node:
    """One operator: the places of its inputs in the graph, and the shape of its value without the leading dimension."""

    op: Affine | Activation | None
    inputs: tuple[int, ...]
    shape: Shape


@dataclass
class Graph:
    """Nodes in topological order; node 0 is the image `(C, H, W)`, the last one the scores `(K,)`."""

    nodes: list[Node] = field(default_factory=list)

    def until(self, place: int) -> Graph:
        """The graph that ends at `place`, without what it does not need."""
        kept = self.below(place)
        new = {at: number for number, at in enumerate(kept)}
        nodes = [
            Node(self.nodes[at].op, tuple(new[i] for i in self.nodes[at].inputs), self.nodes[at].shape) for at in kept
        ]
        return Graph(nodes)

    @property
    def input_shape(self) -> Shape:
        """`(C, H, W)`."""
        return self.nodes[0].shape

    @property
    def num_classes(self) -> int:
        """K."""
        return self.nodes[-1].shape[0]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` of images `(N, C, H, W)`: what the bounds are bounds of."""
        values = [images]
        for node in self.nodes[1:]:
            assert node.op is not None
            values.append(node.op(*(values[place] for place in node.inputs)))
        return values[-1]

    def to(self, like: torch.Tensor) -> Graph:
        """Take the device and precision of `like`."""
        for node in self.nodes:
            if isinstance(node.op, Affine):
                node.op.to(like)
        return self

    def below(self, place: int) -> list[int]:
        """The places whose values the value at `place` is made of, and its own, in order."""
        needed = {place}
        for at in range(place, -1, -1):
            if at in needed:
                needed.update(self.nodes[at].inputs)
        return sorted(needed)

    def margin_rows(self, labels: torch.Tensor) -> torch.Tensor:
        """`(N, K - 1, K)`: the functions that are the score of each label minus each other one."""
        classes = torch.arange(self.num_classes, device=labels.device)
        others = classes.expand(len(labels), -1)[classes != labels[:, None]].view(len(labels), -1)
        rows = torch.zeros(*others.shape, self.num_classes, device=labels.device)
        rows.scatter_(2, labels[:, None, None].expand(-1, others.shape[1], 1), 1.0)
        return rows.scatter_(2, others[:, :, None], -1.0)

    def margins(self, label: int) -> Graph:
        """The same network, whose answers are the score of `label` minus each other one, `(K - 1,)`."""
        weight = self.margin_rows(torch.tensor([label], device="cpu"))[0]
        last = self.nodes[-1]
        if isinstance(last.op, Linear):  # one linear operator: nothing is lost between the two
            weight = weight.to(last.op.weight)
            bias = None if last.op.bias is None else weight @ last.op.bias
            fused = Node(Linear(weight @ last.op.weight, bias), last.inputs, (len(weight),))
            return Graph([*self.nodes[:-1], fused])
        return Graph([*self.nodes, Node(Linear(weight), (len(self.nodes) - 1,), (len(weight),))])


class Builder:
    """Adds operators to a graph; each method takes and returns places of nodes.

    Args:
        input_shape: `(C, H, W)` of an image.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.graph = Graph([Node(None, (), tuple(input_shape))])

    def shape(self, place: int) -> Shape:
        """Of a node's value, without the leading dimension."""
        return self.graph.nodes[place].shape

    def finish(self, place: int, where: str) -> Graph:
        """The graph that ends at `place`, without what it does not need.

        Raises:
            UnsupportedError: its value is not one row of scores.
        """
        shape = self.shape(place)
        if len(shape) != 1 or shape[0] < 2:
            raise UnsupportedError(
                "the network does not end in one row of scores", where=where, found=shape, expected="(K,)"
            )
        return self.graph.until(place)

    def _add(self, op: Affine | Activation, inputs: Sequence[int]) -> int:
        like = next((v for v in vars(op).values() if isinstance(v, torch.Tensor)), torch.zeros(()))
        probe = [torch.zeros(1, *self.shape(place), dtype=like.dtype, device=like.device) for place in inputs]
        self.graph.nodes.append(Node(op, tuple(inputs), tuple(op(*probe).shape[1:])))
        return len(self.graph.nodes) - 1

    def linear(self, x: int, weight: torch.Tensor, bias: torch.Tensor | None = None) -> int:
        """W x + b over the last dimension."""
        return self._add(Linear(weight, bias), (x,))

    def conv(
        self,
        x: int,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> int:
        """A convolution; padding is the same on both sides of each dimension."""
        steps, pads, gaps = ((int(a), int(b)) for a, b in (stride, padding, dilation))
        size = (self.shape(x)[-2], self.shape(x)[-1])
        return self._add(Conv(weight, bias, size, steps, pads, gaps, groups), (x,))

    def scale(self, x: int, factor: torch.Tensor, shift: torch.Tensor | None = None) -> int:
        """factor * x + shift; both without a leading dimension, broadcast over the shape of x.

        Raises:
            UnsupportedError: one of them is larger than x, which would have to be repeated.
        """
        before, place = self.shape(x), self._add(Scale(factor, shift), (x,))
        if self.shape(place) != before:
            raise UnsupportedError("arithmetic that repeats a value", found=f"{before} becomes {self.shape(place)}")
        return place

    def add(self, x: int, y: int, sign: int = 1) -> int:
        """x + sign * y, of one shape."""
        if self.shape(x) != self.shape(y):
            raise UnsupportedError(
                "a sum of two values of different shapes", found=f"{self.shape(x)} and {self.shape(y)}"
            )
        return self._add(Sum(sign), (x, y))

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """Row-major; nothing where the shape is the same."""
        after = tuple(shape)
        return x if after == self.shape(x) else self._add(Reshape(self.shape(x), after), (x,))

    def permute(self, x: int, order: Sequence[int]) -> int:
        """Dimensions in another order, counted without the leading one."""
        return self._add(Permute(tuple(order)), (x,))

    def concat(self, xs: Sequence[int], axis: int) -> int:
        """Joined along `axis`, counted without the leading dimension."""
        return self._add(Concat(axis, tuple(self.shape(x)[axis] for x in xs)), xs)

    def pad(self, x: int, pads: Sequence[int], value: float = 0.0) -> int:
        """Left, right, top, bottom of the last two dimensions."""
        left, right, top, bottom = (int(pad) for pad in pads)
        padded = self._add(Pad((left, right, top, bottom)), (x,))
        if not value:
            return padded
        frame = Pad((left, right, top, bottom)).linear(torch.ones(1, *self.shape(x)))[0]
        return self.scale(padded, torch.ones(()), value * (1 - frame))

    def activation(self, x: int, function: Activation) -> int:
        """f, value by value."""
        return self._add(function, (x,))

    def average_pool(
        self, x: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)
    ) -> int:
        """Means over windows; the padding counts as zeros."""
        channels, (high, wide) = self.shape(x)[0], kernel
        weight = torch.full((channels, 1, high, wide), 1 / (high * wide))
        return self.conv(x, weight, None, stride, padding, groups=channels)

    def max_pool(self, x: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)) -> int:
        """Largest values of windows. A ReLU below is put above, where it does the same: fewer values then need bounds.

        Padding needs values that are never negative, such as those of a ReLU.

        Raises:
            UnsupportedError: padding of values that may be negative.
        """
        below = self.graph.nodes[x]
        rising = isinstance(below.op, Relu) and below.op.slope >= 0
        if any(padding):
            if not (isinstance(below.op, Relu) and below.op.slope == 0):
                raise UnsupportedError("max pooling with padding, of values that may be negative")
            x, rising = self.pad(x, (padding[1], padding[1], padding[0], padding[0])), False
        if rising:
            x = below.inputs[0]
        size = (self.shape(x)[-2], self.shape(x)[-1])
        step, span = (int(stride[0]), int(stride[1])), (int(kernel[0]), int(kernel[1]))
        count = ((size[0] - span[0]) // step[0] + 1, (size[1] - span[1]) // step[1] + 1)
        top = self._add(Largest(), (self._windows(x, Windows(span, step, count, size)),))
        return self.activation(top, below.op) if rising and isinstance(below.op, Relu) else top

    def _windows(self, x: int, windows: Windows) -> int:
        """The values of each window side by side; of a convolution, one that computes them in that order."""
        below, k = self.graph.nodes[x], windows.kernel[0] * windows.kernel[1]
        if not isinstance(below.op, Conv) or below.op.dilation != (1, 1) or below.op.groups != 1:
            return self._add(windows, (x,))
        conv, (high, wide) = below.op, windows.kernel
        down, across = conv.stride
        around = [
            (j * across, (wide - 1 - j) * across, i * down, (high - 1 - i) * down)
            for i in range(high)
            for j in range(wide)
        ]
        weight = torch.cat([functional.pad(conv.weight, frame) for frame in around])
        bias = None if conv.bias is None else conv.bias.repeat(k)
        stride = (down * windows.step[0], across * windows.step[1])
        joint = self._add(Conv(weight, bias, conv.size, stride, conv.padding), below.inputs)
        return self.reshape(joint, (k, len(conv.weight), *windows.count))
