"""What reading an ONNX model is about: values with ONNX's shapes, and the operators that only move them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from charpy.bounds.affine import Shape
from charpy.bounds.graph import Builder, UnsupportedError

Array = np.ndarray[Any, Any]
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"})
"""Operators whose answer is another one each time, though no image goes in."""


class Value(NamedTuple):
    """What depends on the image: its place in the graph, and the shape that ONNX gives it, with the batch axis."""

    place: int
    shape: Shape


class Values:
    """The operators that leave values as they are; each takes and returns `Value`s, and arrays for constants.

    Attributes:
        rows: the size of the batch axis, which the graph leaves out: what the model is made for, 1 where it is free.
        node: the operator that is being read.
        last: values that only the operators of `BEHIND` turn into the answer.
    """

    def __init__(self, model: onnx.ModelProto, builder: Builder, where: str) -> None:
        self.model, self.builder, self.where = model, builder, where
        self.rows = 1
        self.node = onnx.NodeProto()
        self.last: set[str] = set()

    def _row(self, shape: Shape) -> Shape:
        """A shape without its batch axis; a value that has none may be of one image only."""
        if shape[:1] == (self.rows,):
            return shape[1:]
        if self.rows == 1:
            return shape
        raise self._refusal("an operator mixes the images of a batch")

    def _held(self, place: int, shape: Sequence[int]) -> Value:
        """The values at `place`, row-major in another shape of ONNX's."""
        return Value(self.builder.reshape(place, self._row(tuple(shape))), tuple(shape))

    def _made(self, place: int) -> Value:
        return Value(place, (self.rows, *self.builder.shape(place)))

    def _refusal(self, what: str) -> UnsupportedError:
        named = {a.name: attribute(a) for a in self.node.attribute if a.type != onnx.AttributeProto.TENSOR}
        return UnsupportedError(
            what,
            where=self.where,
            found=f"{self.node.op_type}({', '.join(self.node.input)}) {named}"[:200],
            hint="it would be added in core/charpy/bounds/onnx_operators.py",
        )

    def _need(self, supported: bool) -> None:
        """Refuse this use of the operator unless it is one of those that are supported."""
        if not supported:
            raise self._refusal(f"no bounds for this use of the operator {self.node.op_type}")

    def _fold(self, inputs: Sequence[Any]) -> list[Any]:
        """The node's answers to constants, by ONNX's reference implementation."""
        if self.node.op_type in RANDOM:
            raise self._refusal(f"no bounds for the random operator {self.node.op_type}")
        feeds = {name: value for name, value in zip(self.node.input, inputs, strict=True) if name}
        names = [name for name in self.node.output if name]
        one = helper.make_function("one", "one", list(feeds), names, [self.node], self.model.opset_import)
        try:
            return list(ReferenceEvaluator(one).run(None, feeds, attributes={}))
        except Exception as cause:
            raise self._refusal(f"the operator {self.node.op_type} cannot be computed: {cause}"[:300]) from cause

    # values that stay as they are

    def _identity(self, x: Value) -> Value:
        return x

    def _dropout(self, x: Value, ratio: Any = 0.5, training: Any = None, *, seed: int = 0) -> Value:
        self._need(training is None or not np.any(training))
        return x

    def _cast(self, x: Value, *, to: int, saturate: int = 1) -> Value:
        self._need(to in FLOATS)
        return x

    def _softmax(self, x: Value, *, axis: int | None = None) -> Value:
        version = next(each.version for each in self.model.opset_import if each.domain in ("", "ai.onnx"))
        axis = (1 if version < 13 else -1) if axis is None else axis
        self._need(self.node.output[0] in self.last and axis % len(x.shape) == 1 and prod(x.shape[2:]) == 1)
        return x

    _logsoftmax = _softmax

    def _argmax(self, *_: Any, **__: Any) -> Any:
        raise self._refusal("the model answers with labels (ArgMax), not with scores")

    def _shape(self, x: Value, *, start: int = 0, end: int | None = None) -> Array:
        return np.array(x.shape[start:end], np.int64)

    def _size(self, x: Value) -> Array:
        return np.array(prod(x.shape), np.int64)

    # values that move

    def _reshape(self, x: Value, *rest: Any, **_: Any) -> Value:
        return self._held(x.place, self._fold([np.zeros(x.shape, np.float32), *rest])[0].shape)

    _flatten = _squeeze = _unsqueeze = _reshape

    def _transpose(self, x: Value, *, perm: Sequence[int] | None = None) -> Value:
        order = list(range(len(x.shape)))[::-1] if perm is None else list(perm)
        after = [x.shape[axis] for axis in order]
        if order == sorted(order):
            return x
        if order[0] == 0 and x.shape[0] == self.rows:
            return self._held(self.builder.permute(x.place, [axis - 1 for axis in order[1:]]), after)
        if self.rows != 1:
            raise self._refusal("an operator mixes the images of a batch")
        return self._held(self.builder.permute(self.builder.reshape(x.place, x.shape), order), after)

    def _concat(self, *xs: Any, axis: int) -> Value:
        self._need(all(isinstance(x, Value) and x.shape[0] == self.rows for x in xs) and axis % len(xs[0].shape) > 0)
        return self._made(self.builder.concat([x.place for x in xs], axis % len(xs[0].shape) - 1))

    def _pad(self, x: Value, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant") -> Value:
        self._need(mode == "constant")
        rank, half = len(x.shape), len(pads) // 2
        where = [axis % rank for axis in (range(rank) if axes is None else axes)]
        sides = {axis: (int(a), int(b)) for axis, a, b in zip(where, pads[:half], pads[half:], strict=True)}
        return self._grown(x, sides, 0.0 if value is None else float(value))

    def _slice(self, x: Value, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Value:
        self._need(steps is None or all(step == 1 for step in steps))
        sides = {}
        for number, axis in enumerate(range(len(starts)) if axes is None else axes):
            size = x.shape[axis]
            first, behind, _ = slice(int(starts[number]), int(ends[number])).indices(size)
            self._need(first < behind)
            sides[int(axis) % len(x.shape)] = -first, behind - size
        return self._grown(x, sides)

    def _grown(self, x: Value, sides: dict[int, tuple[int, int]], value: float = 0.0) -> Value:
        """Values before and behind, by axis; a negative number takes some away."""
        axes, rank = sorted(axis for axis, side in sides.items() if any(side)), len(x.shape)
        if not axes:
            return x
        self._need(len(axes) <= 2 and axes[0] > 0 and x.shape[0] == self.rows)
        whole = list(range(rank))
        order = whole if axes[0] >= rank - 2 else [axis for axis in whole if axis not in axes] + axes
        moved = self._transpose(x, perm=order)
        (top, bottom), (left, right) = (sides.get(axis, (0, 0)) for axis in order[-2:])
        padded = self._made(self.builder.pad(moved.place, (left, right, top, bottom), value))
        return self._transpose(padded, perm=sorted(whole, key=order.__getitem__))


def attribute(held: onnx.AttributeProto) -> Any:
    """Its value; text as str."""
    value = helper.get_attribute_value(held)
    return value.decode() if isinstance(value, bytes) else value
