"""The front door of ONNX files: everything is looked at before ONNX Runtime sees a byte.

An ONNX file may name other files for its weights (anywhere, through links), name operators that load code or device
blobs, and describe in a few bytes a tensor that fills the memory. Here the protobuf is parsed, every message in it is
walked - subgraphs, functions, attributes, sparse tensors - and what is safe is handed on as one piece of bytes, with
the weights of other files put in: ONNX Runtime opens no file at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx

from charpy.errors import ModelError, UnsafeFileError
from charpy_plugins.wrappers.onnx_external import item_size, take_in

MAX_BYTES = 2**31 - 1
"""Largest model, weights included: what a protobuf can hold."""

MAX_MESSAGES = 2_000_000
"""Protobuf messages in one model; a large classifier has some ten thousand."""

MAX_VALUE_BYTES = 4 * 2**30
"""Largest tensor that a model may hold or compute for one image."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

CONTRIBUTED = frozenset(
    {
        "Attention",
        "BiasGelu",
        "BiasSplitGelu",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gelu",
        "GemmFastGelu",
        "GroupNorm",
        "LayerNormalization",
        "MatMulIntegerToFloat",
        "MultiHeadAttention",
        "NhwcFusedConv",
        "NhwcMaxPool",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuantizeLinear",
        "QuickGelu",
        "SkipGroupNorm",
        "SkipLayerNormalization",
        "TransposeMatMul",
    }
)
"""Operators of com.microsoft that ONNX Runtime's own optimiser and quantiser write: plain arithmetic.

The rest of that domain is refused, EPContext first: it hands a binary blob or a file name to a device driver.
"""

_LOOPS = frozenset({"Loop", "Scan"})


@dataclass(frozen=True)
class Inspected:
    """An ONNX model that has passed.

    Attributes:
        proto: the model, with the weights of other files put in.
        fingerprint: SHA-256 of the file and of every file that it names.
        loops: whether a run could go on for ever.
    """

    proto: onnx.ModelProto
    fingerprint: dict[str, str]
    loops: bool

    @property
    def data(self) -> bytes:
        """The whole model as bytes."""
        serialised: bytes = self.proto.SerializeToString()
        return serialised


def inspect(path: Path) -> Inspected:
    """Read the ONNX file at `path` and everything that it names.

    Raises:
        ModelError: no such file, or not ONNX.
        UnsafeFileError: it names files outside its folder or through links, operators that are not ONNX's own, or
            tensors too large to be true; or it is too large itself.
    """
    where = str(path)
    if not os.path.isfile(path):  # False, too, for what no file can be called
        raise ModelError(
            "no such ONNX file", where=where, hint="look at the path; it is taken from the working directory"
        )
    data = _read(path, where)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as cause:  # noqa: BLE001 - protobuf's own type, which differs between its versions
        raise ModelError(
            "not an ONNX file",
            where=where,
            found=cause,
            expected="a serialised ModelProto",
            hint="export the model again, and keep the .onnx file as it was written",
        ) from None
    if not proto.graph.node:
        raise ModelError(
            "not an ONNX file",
            where=where,
            found="no graph with nodes",
            expected="a classifier",
            hint="export the model again, and keep the .onnx file as it was written",
        )
    tensors, loops = _walk(proto, where)
    fingerprint = {"onnx": hashlib.sha256(data).hexdigest()}
    files: dict[str, bytes] = {}
    room = MAX_BYTES - len(data)
    for tensor in tensors:
        _check_logical(list(tensor.dims), tensor, where)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            room -= take_in(tensor, path.parent, files, MAX_BYTES, where)
            if room < 0:
                raise UnsafeFileError(
                    "the weights are too large",
                    where=where,
                    expected=f"{MAX_BYTES} bytes in all",
                    hint="export it in half precision, or give its PyTorch weights instead",
                )
    fingerprint |= {f"external {name}": hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    _check_values(proto, where)
    return Inspected(proto, fingerprint, loops)


def _read(path: Path, where: str) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsafeFileError(
            "the ONNX file is too large",
            where=where,
            found=size,
            expected=f"{MAX_BYTES} bytes",
            hint="export it in half precision, or give its PyTorch weights instead",
        )
    return path.read_bytes()


def _walk(proto: onnx.ModelProto, where: str) -> tuple[list[Any], bool]:
    """Every tensor of the model, sparse ones as a pair, and whether it has loops; nodes are checked on the way."""
    own = {(function.domain, function.name) for function in proto.functions}
    tensors: list[Any] = []
    loops, sparse = False, 0
    for count, message in enumerate(_messages(proto)):
        if count > MAX_MESSAGES:
            raise UnsafeFileError(
                "the graph is too large",
                where=where,
                expected=f"{MAX_MESSAGES} parts",
                hint="export the model again with smaller tensors",
            )
        if isinstance(message, onnx.TensorProto):
            tensors.append(message)
        elif isinstance(message, onnx.SparseTensorProto):
            # ONNX Runtime makes each of them dense, so they count together
            sparse += prod(message.dims)
            _check_logical([sparse, *(size for size in message.dims if size < 0)], message.values, where)
        elif isinstance(message, onnx.NodeProto):
            loops |= message.op_type in _LOOPS
            _check_node(message, own, where)
    return tensors, loops


def _messages(root: Any) -> Iterator[Any]:
    """`root` and every message inside it, whatever the field; a tensor's own fields are not gone through."""
    open_messages = [root]
    while open_messages:
        message = open_messages.pop()
        yield message
        if isinstance(message, onnx.TensorProto):
            continue
        for field, value in message.ListFields():
            if field.message_type is None:
                continue
            open_messages.extend([value] if hasattr(value, "ListFields") else value)


def _check_node(node: onnx.NodeProto, own: set[tuple[str, str]], where: str) -> None:
    if node.domain in DOMAINS or (node.domain, node.op_type) in own:
        return
    if node.domain == "com.microsoft" and node.op_type in CONTRIBUTED:
        return
    raise UnsafeFileError(
        f"operator {node.op_type!r} of domain {node.domain!r} is not allowed",
        where=where,
        found=f"node {node.name!r}",
        expected="operators of ai.onnx and ai.onnx.ml, and the arithmetic ones of com.microsoft",
        hint="export the model again without vendor operators, or wrap your own runtime as package.module:callable",
    )


def _check_logical(dims: list[int], tensor: onnx.TensorProto, where: str) -> None:
    """Refuse a shape that alone is larger than any weight: a few bytes may describe a full memory."""
    if any(size < 0 for size in dims) or prod(dims) * item_size(tensor.data_type) > MAX_VALUE_BYTES:
        raise UnsafeFileError(
            f"tensor {tensor.name!r} is too large",
            where=where,
            found=f"shape {dims}",
            expected=f"{MAX_VALUE_BYTES} bytes",
            hint="export the model again with smaller tensors",
        )


def _check_values(proto: onnx.ModelProto, where: str) -> None:
    """Refuse a graph that computes a huge tensor for one image, as far as shape inference can tell.

    Only a fixed size counts: a ConstantOfShape of 10^12 elements is found, one whose size depends on the image is not.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return  # ONNX Runtime infers shapes again, and reports what is wrong with them
    for value in inferred.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if prod(dims) * item_size(value.type.tensor_type.elem_type) > MAX_VALUE_BYTES:
            raise UnsafeFileError(
                f"the graph computes a tensor that is too large: {value.name!r}",
                where=where,
                found=f"shape {dims}",
                expected=f"at most {MAX_VALUE_BYTES} bytes for one image",
                hint="export the model again with smaller tensors",
            )
