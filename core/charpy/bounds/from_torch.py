"""The graph of a PyTorch module, from its trace by torch.export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from charpy.bounds.activations import Relu, Sigmoid, Tanh
from charpy.bounds.graph import Builder, Graph, UnsupportedError

ROWS = 2
"""Rows of the images that the module is traced with: a dimension of another size is no leading one."""


def graph_of_module(module: nn.Module, input_shape: Sequence[int]) -> Graph:
    """The graph of `module` in eval mode, for images `(C, H, W)`.

    Raises:
        UnsupportedError: torch cannot trace it, or an operator is not supported; it is named.
    """
    where = type(module).__qualname__
    like = next((value for value in module.parameters() if value.is_floating_point()), torch.zeros(()))
    images = torch.zeros(ROWS, *input_shape, dtype=like.dtype, device=like.device)
    try:
        program = torch.export.export(module.eval(), (images,), strict=False)
    except Exception as cause:
        raise UnsupportedError(
            "torch.export cannot trace the module", where=where, found=f"{type(cause).__name__}: {str(cause)[:200]}"
        ) from cause
    return _Reader(program, tuple(input_shape), where).read()


class _Place(int):
    """A node of the graph, told apart from numbers."""


class _Reader:
    """Walks the trace: what depends on the image becomes a node, everything else is computed at once."""

    def __init__(self, program: torch.export.ExportedProgram, input_shape: tuple[int, ...], where: str) -> None:
        self.program, self.where = program, where
        self.builder = Builder(input_shape)
        self.values: dict[torch.fx.Node, Any] = {}

    def read(self) -> Graph:
        """The graph.

        Raises:
            UnsupportedError: naming the operator.
        """
        signature = self.program.graph_signature
        constants: dict[str, Any] = {**self.program.state_dict, **self.program.constants}
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        held |= signature.inputs_to_lifted_tensor_constants
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                name = held.get(node.name)
                self.values[node] = _Place(0) if name is None else constants[name].detach()
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                answers = torch.fx.node.map_arg(node.args, lambda used: self.values[used])
                answer = answers[0][0] if isinstance(answers[0], list | tuple) else answers[0]
                if not isinstance(answer, _Place):
                    raise UnsupportedError("the module's answer does not depend on its images", where=self.where)
                return self.builder.finish(answer, self.where)
        raise UnsupportedError("the trace has no answer", where=self.where)

    def _call(self, node: torch.fx.Node) -> Any:
        args = torch.fx.node.map_arg(node.args, lambda used: self.values[used])
        named = torch.fx.node.map_arg(node.kwargs, lambda used: self.values[used])
        flat = [*args, *named.values(), *(v for arg in args if isinstance(arg, list | tuple) for v in arg)]
        if not any(isinstance(value, _Place) for value in flat):
            return node.target(*args, **named)  # type: ignore[operator]
        name = str(node.target).removeprefix("aten.").split(".")[0].removesuffix("_")
        maker = getattr(self, f"_{name}", None)
        if maker is None:
            raise UnsupportedError(
                f"no bounds for the operator {name}",
                where=self.where,
                found=str(node.target),
                hint="it would be added in core/charpy/bounds/from_torch.py",
            )
        try:
            made = maker(node, *args, **named)
        except TypeError:  # an overload with other arguments
            made = NotImplemented
        if made is NotImplemented:
            raise UnsupportedError(
                f"no bounds for this use of the operator {name}", where=self.where, found=str(node)[:200]
            )
        return _Place(made)

    def _after(self, node: torch.fx.Node) -> tuple[int, ...]:
        """The shape of a node's value without the leading dimension."""
        shape = tuple(node.meta["val"].shape)
        if shape[0] != ROWS:
            raise UnsupportedError("an operator mixes the images of a batch", where=self.where, found=str(node.target))
        return shape[1:]

    def _linear(self, node: Any, x: int, weight: torch.Tensor, bias: torch.Tensor | None = None) -> int:
        return self.builder.linear(x, weight, bias)

    def _matmul(self, node: Any, x: Any, y: Any) -> Any:
        return self.builder.linear(x, y.T) if isinstance(y, torch.Tensor) and y.ndim == 2 else NotImplemented

    _mm = _matmul

    def _addmm(self, node: Any, bias: torch.Tensor, x: Any, weight: Any) -> Any:
        return self.builder.linear(x, weight.T, bias) if isinstance(weight, torch.Tensor) else NotImplemented

    def _conv2d(
        self,
        node: Any,
        x: int,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
    ) -> Any:
        if isinstance(padding, str):
            return NotImplemented
        return self.builder.conv(x, weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)

    def _batch_norm(
        self,
        node: Any,
        x: int,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
        training: bool,
        momentum: float,
        eps: float,
        *_: Any,
    ) -> Any:
        if training:
            return NotImplemented
        factor = (variance + eps).rsqrt() * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * factor
        column = (-1, *[1] * (len(self.builder.shape(x)) - 1))
        return self.builder.scale(x, factor.view(column), shift.view(column))

    def _relu(self, node: Any, x: int) -> int:
        return self.builder.activation(x, Relu())

    def _leaky_relu(self, node: Any, x: int, slope: float = 0.01) -> Any:
        return self.builder.activation(x, Relu(slope)) if 0 <= slope <= 1 else NotImplemented

    def _sigmoid(self, node: Any, x: int) -> int:
        return self.builder.activation(x, Sigmoid())

    def _tanh(self, node: Any, x: int) -> int:
        return self.builder.activation(x, Tanh())

    def _max_pool2d(
        self, node: Any, x: int, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> Any:
        if ceil or _pair(dilation) != (1, 1):
            return NotImplemented
        return self.builder.max_pool(x, _pair(kernel), _pair(stride or kernel), _pair(padding))

    def _avg_pool2d(
        self,
        node: Any,
        x: int,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil: bool = False,
        count_padding: bool = True,
        divisor: Any = None,
    ) -> Any:
        if ceil or divisor is not None or (not count_padding and _pair(padding) != (0, 0)):
            return NotImplemented
        return self.builder.average_pool(x, _pair(kernel), _pair(stride or kernel), _pair(padding))

    def _adaptive_avg_pool2d(self, node: Any, x: int, size: Any) -> Any:
        shape, wanted = self.builder.shape(x)[-2:], _pair(size)
        if any(have % want for have, want in zip(shape, wanted, strict=True)):
            return NotImplemented
        kernel = tuple(have // want for have, want in zip(shape, wanted, strict=True))
        return self.builder.average_pool(x, kernel, kernel)

    def _sum(self, node: Any, x: int, dims: Any, keep: bool = False, **_: Any) -> Any:
        mean, (high, wide) = self._mean(node, x, dims, keep), self.builder.shape(x)[-2:]
        return mean if mean is NotImplemented else self.builder.scale(mean, torch.tensor(float(high * wide)))

    def _mean(self, node: Any, x: int, dims: Any, keep: bool = False, **_: Any) -> Any:
        shape = self.builder.shape(x)
        if sorted(dim % (len(shape) + 1) for dim in dims) != [2, 3] or len(shape) != 3:
            return NotImplemented
        return self.builder.reshape(self.builder.average_pool(x, shape[-2:], shape[-2:]), self._after(node))

    def _reshape(self, node: Any, x: int, *_: Any, **__: Any) -> int:
        return self.builder.reshape(x, self._after(node))

    _view = _flatten = _squeeze = _unsqueeze = _unsafe_view = _unflatten = _reshape

    def _same(self, node: Any, x: int, *_: Any, **__: Any) -> int:
        return x

    _dropout = _feature_dropout = _contiguous = _clone = _alias = _detach = _same
    _to = _same

    def _permute(self, node: Any, x: int, order: Sequence[int]) -> Any:
        ranks = [axis % (len(self.builder.shape(x)) + 1) for axis in order]
        return self.builder.permute(x, [axis - 1 for axis in ranks[1:]]) if ranks[0] == 0 else NotImplemented

    def _cat(self, node: Any, xs: Sequence[Any], axis: int = 0) -> Any:
        if not all(isinstance(x, _Place) for x in xs):
            return NotImplemented
        axis %= len(self.builder.shape(xs[0])) + 1
        return self.builder.concat(xs, axis - 1) if axis > 0 else NotImplemented

    def _pad(self, node: Any, x: int, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
        whole = [*pads, *[0] * (4 - len(pads))]
        return self.builder.pad(x, whole, value or 0.0) if mode == "constant" and len(whole) == 4 else NotImplemented

    def _constant_pad_nd(self, node: Any, x: int, pads: Sequence[int], value: float = 0.0) -> Any:
        return self._pad(node, x, pads, "constant", value)

    def _neg(self, node: Any, x: int) -> int:
        return self.builder.scale(x, torch.tensor(-1.0))

    def _add(self, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:
        return self._plus(x, y, 1) if alpha == 1 else NotImplemented

    def _sub(self, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:
        return self._plus(x, y, -1) if alpha == 1 else NotImplemented

    def _plus(self, x: Any, y: Any, sign: int) -> int:
        if isinstance(x, _Place) and isinstance(y, _Place):
            return self.builder.add(x, y, sign)
        if isinstance(x, _Place):
            return self.builder.scale(x, torch.tensor(1.0), sign * self._constant(y, x))
        return self.builder.scale(y, torch.tensor(float(sign)), self._constant(x, y))

    def _mul(self, node: Any, x: Any, y: Any) -> Any:
        if isinstance(x, _Place) and isinstance(y, _Place):
            return NotImplemented
        place, factor = (x, y) if isinstance(x, _Place) else (y, x)
        return self.builder.scale(place, self._constant(factor, place))

    def _div(self, node: Any, x: Any, y: Any) -> Any:
        return NotImplemented if isinstance(y, _Place) else self.builder.scale(x, 1 / self._constant(y, x))

    def _constant(self, value: Any, like: int) -> torch.Tensor:
        """A number, or a tensor that is the same for every row of a batch, without the leading dimension."""
        tensor = torch.as_tensor(value, dtype=torch.get_default_dtype() if isinstance(value, float | int) else None)
        rank = len(self.builder.shape(like))
        if tensor.ndim > rank:
            if tensor.shape[0] != 1:
                raise UnsupportedError("a constant that differs between the images of a batch", where=self.where)
            tensor = tensor[0]
        return tensor


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)
