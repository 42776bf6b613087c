"""The graph of an ONNX classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.inliner import inline_local_functions

from charpy.bounds.graph import Builder, Graph, UnsupportedError
from charpy.bounds.onnx_operators import SEVERAL, Operators
from charpy.bounds.onnx_values import Value, attribute
from charpy.errors import CharpyError, ModelError, unknown_name

BEHIND = frozenset({"Cast", "Dropout", "Flatten", "Identity", "LogSoftmax", "Reshape", "Softmax", "Squeeze"})
"""Operators that may follow a last Softmax: the order of the scores stays."""


def graph_of_onnx(
    model: onnx.ModelProto,
    input_shape: Sequence[int],
    *,
    output: str | None = None,
    prepare: Callable[[Builder], int] | None = None,
    where: str = "",
) -> Graph:
    """The graph of an ONNX model with one input, in float32; a last Softmax is left out.

    Args:
        model: with its weights, those of other files included.
        input_shape: `(C, H, W)` of an image.
        output: the output with the scores, by name; it may be left out where there is one only.
        prepare: adds what is done to an image before it is the model's input, and returns the place of that.
        where: the file, for messages.

    Raises:
        UnsupportedError: an operator is not supported; it is named. Or the graph cannot be followed.
        ModelError: the images do not fit the input.
    """
    builder = Builder(tuple(input_shape))
    try:
        return _Reader(model, builder, where).read(0 if prepare is None else prepare(builder), output)
    except CharpyError:
        raise
    except Exception as cause:  # what ONNX Runtime takes, onnx and torch need not
        lines = str(cause).splitlines() or [""]
        found = f"{type(cause).__name__}: {lines[0]}"[:300]
        raise UnsupportedError("no bounds for a graph that cannot be followed", where=where, found=found) from cause


class _Reader(Operators):
    """Walks the model: what depends on the image becomes a node, everything else is computed at once.

    Sizes are those of the batch that the model is made for, of one image where that is free.
    """

    def __init__(self, model: onnx.ModelProto, builder: Builder, where: str) -> None:
        super().__init__(inline_local_functions(model) if model.functions else model, builder, where)
        self.values: dict[str, Any] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer
        }

    def read(self, start: int, output: str | None) -> Graph:
        """The graph from `start`, the model's input, to `output`."""
        names = [port.name for port in self.model.graph.output]
        if output is None and len(names) == 1:
            output = names[0]
        if output is None or output not in names:
            raise unknown_name("output", output or "", names, where=self.where)
        self._enter(start)
        for node in self._needed(output):
            self.node = node
            self._call([self._find(name) if name else None for name in node.input])
        answer = self._find(output)
        if not isinstance(answer, Value):
            raise UnsupportedError("the model's answer does not depend on its images", where=self.where)
        shape = self.builder.shape(answer.place)
        flat = shape[:1] if prod(shape) == prod(shape[:1]) else shape  # axes of size 1 behind the scores
        return self.builder.finish(self.builder.reshape(answer.place, flat), self.where)

    def _enter(self, start: int) -> None:
        ports = [port for port in self.model.graph.input if port.name not in self.values]
        if len(ports) != 1:
            raise UnsupportedError(
                "the model has several inputs", where=self.where, found=[port.name for port in ports]
            )
        sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in ports[0].type.tensor_type.shape.dim]
        self.rows = sizes[0] or 1 if sizes else 1
        shape = (self.rows, *self.builder.shape(start))
        if sizes and (len(sizes) != len(shape) or any(a not in (None, b) for a, b in zip(sizes, shape, strict=True))):
            raise ModelError("the images do not fit the input", where=self.where, found=shape, expected=sizes)
        self.values[ports[0].name] = Value(start, shape)

    def _needed(self, output: str) -> list[onnx.NodeProto]:
        """The nodes that `output` depends on, in the order of the file; notes where a last Softmax may stand."""
        needed, self.last, nodes = {output}, {output}, []
        for node in reversed(self.model.graph.node):
            if needed.isdisjoint(node.output):
                continue
            nodes.append(node)
            needed.update(node.input)
            if node.op_type in BEHIND and node.output[0] in self.last:
                self.last.add(node.input[0])
        return nodes[::-1]

    def _find(self, name: str) -> Any:
        if name not in self.values:
            raise UnsupportedError("the model uses a value that is not computed before", where=self.where, found=name)
        return self.values[name]

    def _call(self, inputs: list[Any]) -> None:
        node, named = self.node, {a.name.lower(): attribute(a) for a in self.node.attribute}
        if not any(isinstance(value, Value) for value in inputs):
            self.values.update(zip(node.output, self._fold(inputs), strict=False))
            return
        maker = getattr(self, f"_{node.op_type.lower()}", None) if node.domain in ("", "ai.onnx") else None
        if maker is None:
            raise self._refusal(f"no bounds for the operator {node.op_type}")
        if node.op_type not in SEVERAL:
            self._need(isinstance(inputs[0], Value) and not any(isinstance(value, Value) for value in inputs[1:]))
        try:
            bound = inspect.signature(maker).bind(*inputs, **named)
        except TypeError:  # an attribute or input that is not read
            self._need(False)
        self.values[node.output[0]] = maker(*bound.args, **bound.kwargs)
