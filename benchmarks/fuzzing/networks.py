"""Small ONNX classifiers of images `(N, 1, 6, 6)`, two classes each: what the fuzzer begins with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def _normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The same numbers at every call."""
    return (np.random.default_rng(shape).normal(size=shape) / 4).astype(np.float32)


def _held(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(_normal(*shape), name)


def _whole(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _model(
    nodes: Sequence[NodeProto],
    held: Sequence[TensorProto],
    *,
    batch: int | str = "N",
    answer: int = TensorProto.FLOAT,
    sizes: Sequence[int | str] = (1, 6, 6),
    scores: Sequence[int | str] = (2,),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *sizes])
    y = helper.make_tensor_value_info("y", answer, [batch, *scores])
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(held))
    domains = [helper.make_opsetid("", 17), *(helper.make_opsetid(each.domain, 1) for each in functions)]
    made = helper.make_model(graph, opset_imports=domains, functions=list(functions), ir_version=8)
    return bytes(made.SerializeToString())


def linear() -> bytes:
    """Flatten, Gemm."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    return _model(nodes, [_held("w", 36, 2), _held("b", 2)])


def convolutional(batch: int | str = "N") -> bytes:
    """Conv, BatchNorm, Relu, MaxPool, AveragePool, Reshape, MatMul, Add, Softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "kb", "kb", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("AveragePool", ["p"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Reshape", ["a", "to"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    held = [_held("k", 4, 1, 3, 3), _held("kb", 4), _held("w", 4, 2), _held("b", 2), _whole("to", -1, 4)]
    held += [numpy_helper.from_array(np.full(4, value, np.float32), name) for name, value in (("s", 0.5), ("v", 2.0))]
    return _model(nodes, held, batch=batch)


def of_many_operators() -> bytes:
    """Arithmetic, shapes computed from shapes, slices, joins, a residual sum."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Sub", ["x", "half"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["e"]),
        helper.make_node("Transpose", ["e"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "to"], ["f"]),
        helper.make_node("Slice", ["f", "one", "some", "one"], ["part"]),
        helper.make_node("Pad", ["part", "pads"], ["wide"]),
        helper.make_node("Add", ["f", "wide"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["g"]),
        helper.make_node("Constant", [], ["scale"], value=numpy_helper.from_array(np.float32(2.0))),
        helper.make_node("Div", ["g", "scale"], ["h"]),
        helper.make_node("Clip", ["h", "least", "most"], ["i"]),
        helper.make_node("Cast", ["i"], ["j"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["j"], ["k"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["k", "w"], ["y"], transB=1, alpha=0.5),
    ]
    numbers = {"half": 0.5, "least": 0.1, "most": 0.9}
    held = [numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items()]
    held += [_whole("zero", 0), _whole("one", 1), _whole("some", 30), _whole("rest", 36), _whole("pads", 0, 3, 0, 4)]
    return _model(nodes, [*held, _held("w", 2, 36)])


def with_loop() -> bytes:
    """A Loop that adds to the image, and an If."""
    tensor = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["w2"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [tensor("i", 7, []), tensor("go", 9, []), tensor("v", 1, None)],
        [tensor("on", 9, []), tensor("w2", 1, None)],
    )
    branches = [
        helper.make_graph([helper.make_node(kind, ["l"], [out])], kind, [], [tensor(out, 1, None)])
        for kind, out in (("Relu", "p"), ("Neg", "q"))
    ]
    nodes = [
        helper.make_node("Loop", ["times", "yes", "x"], ["l"], body=body),
        helper.make_node("If", ["yes"], ["c"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    return _model(nodes, [_held("w", 36, 2), numpy_helper.from_array(np.int64(3), "times"), yes])


def with_function() -> bytes:
    """A function of the model's own."""
    inside = [helper.make_node("Flatten", ["a"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["o"])]
    function = helper.make_function("own", "Dense", ["a", "m"], ["o"], inside, [helper.make_opsetid("", 17)])
    return _model(
        [helper.make_node("Dense", ["x", "w"], ["y"], domain="own")], [_held("w", 36, 2)], functions=[function]
    )


def with_labels() -> bytes:
    """Ends in ArgMax; weights as packed numbers; the size of the images is free."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [36, 2], _normal(72).tolist())
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["s"]),
        helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0),
    ]
    return _model(nodes, [weight], answer=TensorProto.INT64, sizes=(1, "H", "W"), scores=())


def quantised() -> bytes:
    """QuantizeLinear, DequantizeLinear, an operator of com.microsoft, a sparse weight."""
    zero, scale = numpy_helper.from_array(np.uint8(3), "z"), numpy_helper.from_array(np.float32(0.01), "s")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Gelu", ["d"], ["g"], domain="com.microsoft"),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    model = onnx.load_from_string(_model(nodes, [zero, scale]))
    values, indices = (
        numpy_helper.from_array(np.ones(4, np.float32), "w"),
        numpy_helper.from_array(np.arange(0, 72, 20)),
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [36, 2]))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(model.SerializeToString())


def with_weights_beside(location: str) -> bytes:
    """Its weights are in the file `location`: 36 x 2 float32."""
    tensor = TensorProto(name="w", dims=[36, 2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "288")):
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return _model(nodes, [tensor])
