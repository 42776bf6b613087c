"""The batch axis of ONNX graphs: read as its exporter meant it, and freed where it was made for one size."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import numpy_helper


def free_unset_axes(proto: Any) -> None:
    """Make every axis of the inputs and outputs free that some exporter gave the size 0 or -1 to say so."""
    for port in (*proto.graph.input, *proto.graph.output):
        for number, dim in enumerate(port.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.dim_param = f"free_{number}"


def free_batch_axis(proto: Any, input_name: str, batch: int) -> bytes:
    """The bytes of `proto` with the first axis of its input and outputs free.

    Where a Reshape names the batch size, it keeps the size that comes in. Whether the graph then still computes the
    same is not decided here: the query engine compares it with the model as given before it is used.
    """
    free = onnx.ModelProto()
    free.CopyFrom(proto)
    graph = free.graph
    del graph.value_info[:]
    for port in (*(each for each in graph.input if each.name == input_name), *graph.output):
        dims = port.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == batch:
            dims[0].dim_param = "N"
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if _is_constant(node)}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        keeps_zero = any(each.name == "allowzero" and each.i for each in node.attribute)
        if shape.ndim == 1 and len(shape) and shape[0] == batch and not keeps_zero:
            shape[0] = 0  # "as it comes in"
            name = f"charpy.free_batch.{number}"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
    data: bytes = free.SerializeToString()
    return data


def _is_constant(node: Any) -> bool:
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t")
