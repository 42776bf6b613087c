"""Graphs of ONNX models against ONNX Runtime, operator by operator, and for models of others and of the zoo."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from charpy.bounds.affine import Affine
from charpy.bounds.from_onnx import graph_of_onnx
from charpy.bounds.graph import Graph, UnsupportedError
from charpy.errors import ModelError, UnknownNameError
from charpy.interfaces.model import Output
from charpy.specs import parse
from charpy_models.zoo import Cifar10CNN, Cifar10ResNet8Robust, DigitsCNN, MnistLeNet, MnistRobust
from charpy_plugins.wrappers import onnx_export
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.onnx_session import Session

RANDOM = np.random.default_rng(5)
INT = TensorProto.INT64
LARGEST = float(np.finfo(np.float32).max)


def some(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def node(text: str, **attributes: Any) -> onnx.NodeProto:
    """`"Conv x w -> y"`, with `_` for an input that is left out."""
    before, after = (part.split() for part in text.split("->"))
    return helper.make_node(before[0], [name.replace("_", "") for name in before[1:]], after, **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[Any],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    batch: int | str = "N",
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def answers(model: onnx.ModelProto, images: torch.Tensor, batch: int = 1) -> torch.Tensor:
    """ONNX Runtime's, in pieces of `batch` images."""
    session = Session(model.SerializeToString(), torch.device("cpu"))
    return torch.cat([session.run("x", piece, session.outputs[0]) for piece in images.split(batch)])


def check_transposes(graph: Graph) -> None:
    """<L x, r> = <x, L^T r> for every affine operator: the bounds go that way."""
    generator = torch.Generator().manual_seed(1)
    for each in graph.nodes[1:]:
        if not isinstance(each.op, Affine):
            continue
        inputs = [torch.randn(1, *graph.nodes[place].shape, generator=generator) for place in each.inputs]
        value = each.op.linear(*inputs)
        rows = torch.randn(value.shape, generator=generator)
        pulled = each.op.transpose(rows)
        back = sum((a * b).sum() for a, b in zip(inputs, pulled, strict=True))
        torch.testing.assert_close((value * rows).sum(), back, atol=1e-3, rtol=1e-3)


def check(model: onnx.ModelProto, shape: Sequence[int], batch: int = 1) -> Graph:
    images = torch.randn(4 * batch, *shape, generator=torch.Generator().manual_seed(3))
    graph = graph_of_onnx(model, shape)
    torch.testing.assert_close(graph(images), answers(model, images, batch), atol=1e-4, rtol=1e-4)
    check_transposes(graph)
    return graph


IMAGE = (3, 7, 6)
KERNEL = {"w": some(4, 3, 3, 2), "b": some(4)}
COLUMN = {"v": some(3, 1, 1)}
POOL = {"kernel_shape": [2, 3], "strides": [2, 1]}

CASES: dict[str, tuple[Any, ...]] = {
    # name: input shape, nodes, constants, opset
    "conv": (IMAGE, [node("Conv x w b -> f")], KERNEL),
    "conv without bias": (IMAGE, [node("Conv x w -> f", strides=[2, 1])], KERNEL),
    "conv dilated": (IMAGE, [node("Conv x w -> f", dilations=[2, 3], pads=[1, 2, 1, 2], kernel_shape=[3, 2])], KERNEL),
    "conv padded unevenly": (IMAGE, [node("Conv x w b -> f", pads=[1, 0, 2, 3], strides=[2, 2])], KERNEL),
    "conv in groups": ((4, 5, 5), [node("Conv x w -> f", group=2)], {"w": some(6, 2, 3, 3)}),
    "conv same upper": (IMAGE, [node("Conv x w b -> f", auto_pad="SAME_UPPER", strides=[2, 2])], KERNEL),
    "conv same lower": (IMAGE, [node("Conv x w b -> f", auto_pad="SAME_LOWER")], KERNEL),
    "conv valid": (IMAGE, [node("Conv x w b -> f", auto_pad="VALID")], KERNEL),
    "batch normalisation": (
        IMAGE,
        [node("BatchNormalization x s b m v -> f", epsilon=0.1)],
        {"s": some(3), "b": some(3), "m": some(3), "v": some(3) ** 2},
    ),
    "batch normalisation of a row": (
        (5,),
        [node("MatMul x w -> m"), node("BatchNormalization m a b c d -> f")],
        {"w": some(5, 3), "a": some(3), "b": some(3), "c": some(3), "d": some(3) ** 2},
    ),
    "relu": (IMAGE, [node("Relu x -> f")]),
    "leaky relu": (IMAGE, [node("LeakyRelu x -> f", alpha=0.2)]),
    "leaky relu by default": (IMAGE, [node("LeakyRelu x -> f")]),
    "prelu of one slope": (IMAGE, [node("PRelu x s -> f")], {"s": np.full((3, 1, 1), 0.25, np.float32)}),
    "sigmoid": (IMAGE, [node("Sigmoid x -> f")]),
    "tanh": (IMAGE, [node("Tanh x -> f")]),
    "clip from 0": (IMAGE, [node("Clip x l -> f")], {"l": np.float32(0)}),
    "clip to the largest": (IMAGE, [node("Clip x l h -> f")], {"l": np.float32(0), "h": np.float32(LARGEST)}),
    "clip both": (IMAGE, [node("Clip x l h -> f")], {"l": np.float32(-0.2), "h": np.float32(0.7)}),
    "clip above only": (IMAGE, [node("Clip x _ h -> f")], {"h": np.float32(0.1)}),
    "clip by attributes": (IMAGE, [node("Clip x -> f", min=0.0, max=0.5)], {}, 9),
    "max pool": (IMAGE, [node("MaxPool x -> f", **POOL)]),
    "max pool padded": (IMAGE, [node("Relu x -> r"), node("MaxPool r -> f", pads=[1, 1, 1, 1], **POOL)]),
    "max pool padded unevenly": (IMAGE, [node("Relu x -> r"), node("MaxPool r -> f", pads=[0, 1, 1, 2], **POOL)]),
    "max pool same": (IMAGE, [node("Relu x -> r"), node("MaxPool r -> f", auto_pad="SAME_UPPER", **POOL)]),
    "max pool ceil, nothing left": (
        (2, 4, 4),
        [node("MaxPool x -> f", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
    ),
    "average pool": (IMAGE, [node("AveragePool x -> f", **POOL)]),
    "average pool, padding counts": (
        IMAGE,
        [node("AveragePool x -> f", pads=[1, 1, 1, 1], count_include_pad=1, **POOL)],
    ),
    "average pool, padding does not count": (IMAGE, [node("AveragePool x -> f", pads=[1, 2, 1, 2], **POOL)]),
    "average pool padded unevenly": (IMAGE, [node("AveragePool x -> f", pads=[0, 1, 1, 2], **POOL)]),
    "average pool padded unevenly, counts": (
        IMAGE,
        [node("AveragePool x -> f", pads=[0, 1, 1, 2], count_include_pad=1, **POOL)],
    ),
    "average pool same": (IMAGE, [node("AveragePool x -> f", auto_pad="SAME_LOWER", **POOL)]),
    "global average pool": (IMAGE, [node("GlobalAveragePool x -> f")]),
    "global max pool": ((2, 2, 3), [node("GlobalMaxPool x -> f")]),
    "mean": (IMAGE, [node("ReduceMean x -> f", axes=[2, 3], keepdims=0)]),
    "mean over other axes": (IMAGE, [node("ReduceMean x -> f", axes=[-3, -1])]),
    "mean by input": (IMAGE, [node("ReduceMean x a -> f")], {"a": whole(2, 3)}, 18),
    "sum over an axis": (IMAGE, [node("ReduceSum x a -> f", keepdims=0)], {"a": whole(2)}),
    "add a constant": (IMAGE, [node("Add x v -> f")], COLUMN),
    "add a constant with a batch axis": (IMAGE, [node("Add v x -> f")], {"v": some(1, 3, 1, 6)}),
    "subtract a constant": (IMAGE, [node("Sub x v -> f")], {"v": some(6)}),
    "subtract from a constant": (IMAGE, [node("Sub v x -> f")], {"v": some()}),
    "multiply": (IMAGE, [node("Mul v x -> f")], COLUMN),
    "divide": (IMAGE, [node("Div x v -> f")], COLUMN),
    "negate": (IMAGE, [node("Neg x -> f")]),
    "add two": (IMAGE, [node("Relu x -> a"), node("Tanh x -> b"), node("Add a b -> f")]),
    "subtract two": (IMAGE, [node("Relu x -> a"), node("Tanh x -> b"), node("Sub a b -> f")]),
    "sum of three": (IMAGE, [node("Relu x -> a"), node("Sum a x v -> f")], COLUMN),
    "add two of different ranks": (
        (5, 1),
        [node("Reshape x s -> a"), node("Add a x -> f")],
        {"s": whole(5, 1)},
    ),
    "matmul": (IMAGE, [node("MatMul x w -> f")], {"w": some(6, 4)}),
    "matmul with a constant on the left": (IMAGE, [node("MatMul w x -> f")], {"w": some(4, 7)}),
    "matmul of a column": ((5, 1), [node("MatMul w x -> a"), node("Add a b -> f")], {"w": some(4, 5), "b": some(4, 1)}),
    "matmul of a column without a batch axis": (
        (5,),
        [
            node("Transpose x -> t"),
            node("MatMul w t -> a"),
            node("Add a b -> c"),
            node("Relu c -> d"),
            node("Transpose d -> f"),
        ],
        {"w": some(4, 5), "b": some(4, 1)},
    ),
    "matmul of a bare vector": (
        (5,),
        [node("Reshape x s -> t"), node("MatMul w t -> a"), node("Relu a -> r"), node("Reshape r o -> f")],
        {"w": some(4, 5), "s": whole(-1), "o": whole(1, 4)},
    ),
    "matmul and add": ((5,), [node("MatMul x w -> a"), node("Add a b -> f")], {"w": some(5, 4), "b": some(1, 4)}),
    "matmul of a constant with a batch axis": ((3, 5), [node("MatMul x w -> f")], {"w": some(1, 5, 4)}),
    "gemm": ((5,), [node("Gemm x w b -> f")], {"w": some(5, 4), "b": some(4)}),
    "gemm, all attributes": (
        (5,),
        [node("Gemm x w b -> f", alpha=0.5, beta=2.0, transB=1)],
        {"w": some(4, 5), "b": some(1, 4)},
    ),
    "gemm without bias": ((5,), [node("Gemm x w -> f", alpha=3.0)], {"w": some(5, 4)}),
    "gemm with a constant on the left": (
        (5,),
        [node("Gemm w x b -> t", transB=1, alpha=0.5), node("Transpose t -> f")],
        {"w": some(4, 5), "b": some(4, 1)},
    ),
    "gemm turned": (
        (5,),
        [node("Transpose x -> t"), node("Gemm t w -> f", transA=1)],
        {"w": some(5, 4)},
    ),
    "gemm plus a value": ((4,), [node("Tanh x -> t"), node("Gemm x w t -> f")], {"w": some(4, 4)}),
    "concatenate": (IMAGE, [node("Relu x -> a"), node("Concat a x -> f", axis=-2)]),
    "flatten": (IMAGE, [node("Flatten x -> f")]),
    "flatten by the last axes": (IMAGE, [node("Flatten x -> f", axis=-4)]),
    "reshape": (IMAGE, [node("Reshape x s -> f")], {"s": whole(0, -1, 3)}),
    "transpose": (IMAGE, [node("Transpose x -> f", perm=[0, 2, 3, 1])]),
    "transpose all": ((3, 4), [node("Transpose x -> a"), node("Transpose a -> f")]),
    "squeeze": ((3, 1, 4), [node("Squeeze x a -> f")], {"a": whole(2)}),
    "squeeze by attribute": ((3, 1, 4), [node("Squeeze x -> f", axes=[2])], {}, 11),
    "unsqueeze": ((3, 4), [node("Unsqueeze x a -> f")], {"a": whole(-1, 1)}),
    "unsqueeze by attribute": ((3, 4), [node("Unsqueeze x -> f", axes=[1])], {}, 11),
    "pad": (IMAGE, [node("Pad x p -> f")], {"p": whole(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad with a value": (IMAGE, [node("Pad x p v -> f")], {"p": whole(0, 0, 1, 2, 0, 0, 3, 0), "v": np.float32(0.3)}),
    "pad channels": (IMAGE, [node("Pad x p -> f")], {"p": whole(0, 1, 0, 0, 0, 2, 0, 1)}),
    "pad by attribute": (IMAGE, [node("Pad x -> f", pads=[0, 0, 0, 1, 0, 0, 2, 0], value=-0.5)], {}, 10),
    "pad by axes": (IMAGE, [node("Pad x p _ a -> f")], {"p": whole(1, 2), "a": whole(-1)}, 18),
    "pad a row": ((5,), [node("Pad x p -> f")], {"p": whole(0, 1, 0, 2)}),
    "slice": (IMAGE, [node("Slice x s e a -> f")], {"s": whole(1, -4), "e": whole(3, 2**62), "a": whole(1, 3)}),
    "slice by attribute": (IMAGE, [node("Slice x -> f", starts=[1], ends=[-1], axes=[2])], {}, 9),
    "identity": (IMAGE, [node("Identity x -> f")]),
    "dropout": (IMAGE, [node("Dropout x -> f")]),
    "dropout with a ratio": (IMAGE, [node("Dropout x r -> f")], {"r": np.float32(0.4)}),
    "cast": (IMAGE, [node("Cast x -> a", to=TensorProto.DOUBLE), node("Cast a -> f", to=TensorProto.FLOAT)]),
    "constant": (IMAGE, [node("Constant -> c", value_float=1.5), node("Mul x c -> f")]),
    "reshape by the shape": (
        IMAGE,
        [
            node("Shape x -> s"),
            node("Gather s i -> n"),
            node("Unsqueeze n z -> u"),
            node("Concat u m -> t", axis=0),
            node("Reshape x t -> f"),
        ],
        {"i": np.array(0), "z": whole(0), "m": whole(-1)},
    ),
    "reshape by arithmetic": (
        IMAGE,
        [
            node("Shape x -> s"),
            node("Slice s a b -> t"),
            node("ReduceProd t -> p", keepdims=1),
            node("ConstantOfShape o -> c", value=helper.make_tensor("value", INT, [1], [1])),
            node("Cast c -> d", to=INT),
            node("Concat d p -> u", axis=0),
            node("Reshape x u -> f"),
        ],
        {"a": whole(1), "b": whole(4), "o": whole(1)},
    ),
    "a constant branch": (
        (5,),
        [node("Relu w -> v"), node("Transpose v -> t"), node("MatMul x t -> f")],
        {"w": some(4, 5)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_answer_as_onnx_runtime_does(name):
    shape, nodes, constants, opset, *_ = (*CASES[name], *({}, 17)[len(CASES[name]) - 2 :])
    check(model_of([*nodes, node("Flatten f -> y")], shape, constants, opset=opset), shape)


def test_a_sum_right_behind_a_product_is_part_of_it():
    nodes = [node("MatMul x w -> m"), node("Add m b -> a"), node("Mul a s -> y")]
    graph = check(model_of(nodes, (5,), {"w": some(5, 4), "b": some(4), "s": some(4)}), (5,))
    assert len(graph.nodes) == 2


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_batch_size_that_is_fixed(batch):
    nodes = [
        node("Add x c -> a"),
        node("Conv a w -> v"),
        node("Transpose v -> t", perm=[0, 2, 3, 1]),
        node("Reshape t s -> f"),
        node("MatMul f m -> y"),
    ]
    constants = {"c": some(3, 1, 1)[None].repeat(batch, 0), "w": some(4, 3, 3, 2), "s": whole(batch, 100)}
    check(model_of(nodes, IMAGE, {**constants, "m": some(100, 3)}, batch=batch), IMAGE, batch)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Reshape x s -> f"), node("Flatten f -> y")],
        [node("Transpose x -> f", perm=[1, 0, 2, 3]), node("Flatten f -> y")],
        [node("Add x c -> f"), node("Flatten f -> y")],
    ],
    ids=["reshape", "transpose", "constant"],
)
def test_an_operator_that_mixes_the_images_of_a_batch_is_refused(nodes):
    model = model_of(nodes, IMAGE, {"s": whole(3, -1), "c": some(2, 1, 1, 1)}, batch=2)
    with pytest.raises(UnsupportedError, match="images of a batch"):
        graph_of_onnx(model, IMAGE)


@pytest.mark.parametrize(
    ("last", "opset"),
    [
        ([node("Softmax s -> y")], 17),
        ([node("Softmax s -> y")], 9),
        ([node("LogSoftmax s -> y", axis=1)], 17),
        ([node("Softmax s -> p", axis=-1), node("Identity p -> q"), node("Flatten q -> y")], 17),
    ],
    ids=["last axis", "older opset", "logarithm", "and what follows"],
)
def test_a_last_softmax_is_left_out(last, opset):
    constants = {"w": some(5, 4)}
    images = torch.randn(6, 5)
    scores = graph_of_onnx(model_of([node("Gemm x w -> s"), *last], (5,), constants, opset=opset), (5,))(images)
    expected = answers(model_of([node("MatMul x w -> y")], (5,), constants), images)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_scores_with_axes_of_size_1_behind_them_are_a_row():
    graph = graph_of_onnx(model_of([node("GlobalAveragePool x -> y")], IMAGE), IMAGE)
    assert (graph.input_shape, graph.num_classes) == (IMAGE, 3)


def test_functions_of_the_model_are_put_in():
    opsets = [helper.make_opsetid("", 17)]
    double = helper.make_function("own", "Double", ["a"], ["b"], [node("Add a a -> c"), node("Relu c -> b")], opsets)
    model = model_of([helper.make_node("Double", ["x"], ["y"], domain="own")], (5,))
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("own", 1))
    check(model, (5,))


def test_one_of_several_outputs():
    nodes = [node("Gemm x w -> a"), node("ArgMax a -> b", axis=1), node("Relu a -> c")]
    model = model_of(nodes, (5,), {"w": some(5, 4)}, outputs=("a", "c"))
    images = torch.randn(3, 5)
    first, second = (graph_of_onnx(model, (5,), output=name)(images) for name in ("a", "c"))
    torch.testing.assert_close(first.clamp_min(0), second)
    for wrong in (None, "d"):
        with pytest.raises(UnknownNameError, match=r"a[\s\S]*c"):
            graph_of_onnx(model, (5,), output=wrong)


REFUSED: dict[str, tuple[str, list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "an operator": (
        r"no bounds for the operator Erf[\s\S]*Erf\(x\)[\s\S]*onnx_operators\.py",
        [node("Erf x -> f")],
        {},
    ),
    "a use": ("this use of the operator MaxPool", [node("MaxPool x -> f", kernel_shape=[2, 2], dilations=[2, 2])], {}),
    "an attribute that is unknown": ("this use of the operator Relu", [node("Relu x -> f", new=1)], {}),
    "a product of two values": ("this use of the operator Mul", [node("Mul x x -> f")], {}),
    "a quotient": ("this use of the operator Div", [node("Div c x -> f")], {"c": some()}),
    "matrices of values": ("this use of the operator MatMul", [node("Transpose x -> t"), node("MatMul t x -> f")], {}),
    "a constant larger than the value": (
        "this use of the operator Add",
        [node("Add x c -> f")],
        {"c": some(2, 3, 7, 6)},
    ),
    "uneven padding of negative values": (
        "this use of the operator MaxPool",
        [node("MaxPool x -> f", pads=[0, 0, 1, 1], **POOL)],
        {},
    ),
    "padding of negative values": ("may be negative", [node("MaxPool x -> f", pads=[1, 1, 1, 1], **POOL)], {}),
    "windows beyond the image": (
        "this use of the operator AveragePool",
        [node("AveragePool x -> f", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
        {},
    ),
    "a mean over the batch": ("this use of the operator ReduceMean", [node("ReduceMean x -> f", axes=[0])], {}),
    "padding by reflection": (
        "this use of the operator Pad",
        [node("Pad x p -> f", mode="reflect")],
        {"p": whole(*[0] * 8)},
    ),
    "padding of the batch": ("this use of the operator Pad", [node("Pad x p -> f")], {"p": whole(1, *[0] * 7)}),
    "padding of three axes": ("this use of the operator Pad", [node("Pad x p -> f")], {"p": whole(0, *[1] * 7)}),
    "dropout in training": (
        "this use of the operator Dropout",
        [node("Dropout x r t -> f")],
        {"r": np.float32(0.5), "t": np.array(True)},
    ),
    "a softmax of something else than scores": (
        "this use of the operator Softmax",
        [node("Softmax x -> f", axis=2)],
        {},
    ),
    "a value where a constant is expected": (
        "this use of the operator Conv",
        [node("Tanh w -> v"), node("Conv v x -> f")],
        {"w": some(1, 3, 7, 6)},
    ),
    "division by 0": ("this use of the operator Div", [node("Div x c -> f")], {"c": np.zeros((), np.float32)}),
    "whole numbers": ("this use of the operator Cast", [node("Cast x -> f", to=INT)], {}),
    "labels": ("labels", [node("ArgMax x -> f", axis=1)], {}),
    "a softmax within": (
        "this use of the operator Softmax",
        [node("Flatten x -> a"), node("Softmax a -> s"), node("Relu s -> f")],
        {},
    ),
    "noise": ("random operator RandomNormal", [node("RandomNormal -> r", shape=[6]), node("Add x r -> f")], {}),
    "a constant that cannot be computed": (
        "Gather cannot be computed",
        [node("Gather c i -> r"), node("Add x r -> f")],
        {"c": some(2), "i": whole(7)},
    ),
    "a value from nowhere": ("not computed before", [node("Add x r -> f")], {}),
    "an answer of one number": ("does not end in one row of scores", [node("ReduceMean x -> f", axes=[1, 2, 3])], {}),
    "an answer without images": ("does not depend on its images", [node("Relu c -> f")], {"c": some(1, 4)}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_is_not_supported(name):
    message, nodes, constants = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        graph_of_onnx(model_of([*nodes, node("Flatten f -> y")], IMAGE, constants), IMAGE, where="net.onnx")


def test_images_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"do not fit[\s\S]*\(1, 3, 7, 5\)[\s\S]*7, 6"):
        graph_of_onnx(model_of([node("Flatten x -> y")], IMAGE), (3, 7, 5))


# files, as they are opened


def opened(path: Path, **params: Any) -> OnnxModel:
    return OnnxModel(parse(OnnxModel.Params, {"path": str(path), "device": "cpu", **params}))


def agree(model: OnnxModel, images: torch.Tensor) -> Graph:
    """The graph, after its answers were compared with the model's."""
    expected, graph = model.predict(images), model.graph()
    assert graph is not None
    torch.testing.assert_close(graph(images), expected, atol=1e-4, rtol=1e-4)
    return graph


@pytest.mark.parametrize("numbers", [{}, {"range": [0, 255], "mean": [100.0, 90, 80], "std": [50.0]}, {"std": [2.0]}])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ([3, 5, 6], "nchw"),
        ([3, "H", "W"], "nchw"),
        ([5, 6, 3], "nhwc"),
        ([90], "flat_chw"),
        ([90, 1], "flat_hwc"),
        ([1, "D"], "flat_hwc"),
    ],
)
def test_what_is_done_to_images_first(tmp_path, shape, layout, numbers):
    model = model_of([node("Flatten x -> f"), node("MatMul f w -> y")], shape, {"w": some(90, 4)})
    onnx.save(model, tmp_path / "model.onnx")
    agree(opened(tmp_path / "model.onnx", layout=layout, **numbers), torch.rand(5, 3, 5, 6))


def test_a_shape_that_the_file_leaves_open_is_that_of_the_images_seen(tmp_path):
    onnx.save(model_of([node("Gemm x w -> y")], (24,), {"w": some(24, 4)}), tmp_path / "model.onnx")
    model = opened(tmp_path / "model.onnx")
    assert model.graph() is None
    assert agree(model, torch.rand(2, 1, 4, 6)).input_shape == (1, 4, 6)


def test_weights_in_another_file(tmp_path):
    model = model_of([node("Flatten x -> f"), node("Gemm f w -> y")], (1, 4, 6), {"w": some(24, 4)})
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").stat().st_size == 24 * 4 * 4
    agree(opened(tmp_path / "model.onnx"), torch.rand(2, 1, 4, 6))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_files_made_for_one_batch_size(tmp_path, batch):
    nodes = [node("Reshape x s -> f"), node("Gemm f w -> y")]
    model = model_of(nodes, (1, 4, 6), {"w": some(24, 4), "s": whole(batch, 24)}, batch=batch)
    onnx.save(model, tmp_path / "model.onnx")
    agree(opened(tmp_path / "model.onnx"), torch.rand(5, 1, 4, 6))


def test_a_file_that_answers_with_probabilities_has_a_graph_of_logits(tmp_path):
    nodes = [node("Flatten x -> f"), node("Gemm f w -> s"), node("Softmax s -> y")]
    onnx.save(model_of(nodes, (1, 4, 6), {"w": some(24, 4)}), tmp_path / "model.onnx")
    model, images = opened(tmp_path / "model.onnx"), torch.rand(5, 1, 4, 6)
    assert model.output is Output.PROBABILITIES
    torch.testing.assert_close(model.graph()(images).softmax(1), model.predict(images), atol=1e-5, rtol=1e-5)


def test_files_without_scores_or_with_whole_pixels_are_refused(tmp_path):
    labels = model_of([node("Flatten x -> f"), node("ArgMax f -> y", axis=1, keepdims=0)], (1, 4, 6), kind=INT)
    onnx.save(labels, tmp_path / "labels.onnx")
    with pytest.raises(UnsupportedError, match="labels, not with scores"):
        opened(tmp_path / "labels.onnx").graph()
    pixels = model_of([node("Cast x -> c", to=TensorProto.FLOAT), node("Flatten c -> y")], (1, 4, 6))
    pixels.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(pixels, tmp_path / "pixels.onnx")
    with pytest.raises(UnsupportedError, match="whole numbers"):
        opened(tmp_path / "pixels.onnx").graph()


@pytest.mark.parametrize("zoo", [DigitsCNN, MnistLeNet, MnistRobust, Cifar10CNN, Cifar10ResNet8Robust])
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_exports_of_the_zoo(zoo, exporter, tmp_path, monkeypatch):
    def refuse(*_: object) -> bytes:
        raise RuntimeError("unsupported")

    if exporter == "dynamo":
        if importlib.util.find_spec("onnxscript") is None:
            pytest.skip("needs onnxscript")
        monkeypatch.setattr(onnx_export, "_by_tracing", refuse)
    model = zoo()
    assert model.export(tmp_path / "zoo.onnx")["exporter"] == exporter
    agree(opened(tmp_path / "zoo.onnx"), torch.rand(8, *model.input_shape))


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist-net_256x2", "Convnet_avgpool", "cifar10_small", "resnet_2b", "cifar_base_kw"])
def test_networks_of_others(data_dir, name):
    folder = data_dir / "vnncomp"
    if not (folder / "models.csv").is_file():
        pytest.skip("CHARPY_DATA holds no vnncomp/ folder")
    with (folder / "models.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if name in row["model"])
    numbers = {key: [float(value) for value in row[f"input_{key}"].split()] for key in ("mean", "std")}
    layout = {"NCHW": "nchw", "NHWC": "nhwc"}.get(row["input_layout"], "flat_chw")
    shape = (1, 28, 28) if row["dataset"] == "mnist" else (3, 32, 32)
    graph = agree(opened(folder / row["model"], layout=layout, **numbers), torch.rand(64, *shape))
    assert (graph.input_shape, graph.num_classes) == (shape, 10)
