"""Which output of an ONNX graph is the classifier's answer, and what it is."""

from __future__ import annotations

from typing import Any

import torch

from charpy.errors import ModelError, SpecError, unknown_name
from charpy.interfaces.model import Output
from charpy_plugins.wrappers.onnx_session import DTYPES, Port

_ZIPMAP = (
    "export the scikit-learn model again with `to_onnx(model, sample, options={'zipmap': False})`, "
    "or set output_name to the output with the labels"
)


def choose_output(ports: tuple[Port, ...], name: str | None, index: int | None, where: str) -> Port:
    """The output called `name` or at `index`; if neither is given, the only one that can be meant.

    Raises:
        UnknownNameError, SpecError: there is no such output.
        ModelError: it is no tensor of numbers, or several could be meant.
    """
    if name is not None:
        named = [port for port in ports if port.name == name]
        if not named:
            raise unknown_name("output", name, [port.name for port in ports], where=where)
        return _numbers(named[0], where)
    if index is not None:
        if index >= len(ports):
            raise SpecError(
                "no such output",
                where=where,
                found=index,
                expected=f"0..{len(ports) - 1}",
                hint="leave `output` out to have it found",
            )
        return _numbers(ports[index], where)
    if len(ports) == 1:
        return _numbers(ports[0], where)
    for port in ports:
        if not port.type.startswith("tensor("):
            _numbers(port, where)
    scores = [port for port in ports if _is_float(port) and len(port.shape) == 2]
    if len(scores) == 1:
        return scores[0]
    raise ModelError(
        "several outputs could be the answer",
        where=where,
        found="; ".join(str(port) for port in ports),
        expected="one output with scores (N, K)",
        hint="set output_name or output_index",
    )


def kind_of_output(port: Port, graph: Any, declared: Output | None, where: str) -> Output:
    """What `port` holds: as declared, or labels for whole numbers, probabilities after a Softmax, otherwise logits."""
    if declared is not None and (declared is Output.LABELS) is _is_float(port):
        raise ModelError(
            f"the output cannot be {declared}",
            where=where,
            found=str(port),
            expected="whole numbers for labels, floating-point numbers for scores",
            hint="leave `output` to auto",
        )
    if declared is not None:
        return declared
    if not _is_float(port):
        return Output.LABELS
    producers = [node.op_type for node in graph.node if port.name in node.output]
    return Output.PROBABILITIES if producers == ["Softmax"] else Output.LOGITS


def num_classes_of(port: Port, output: Output) -> int | None:
    """K, where the graph fixes it."""
    return port.shape[1] if output is not Output.LABELS and len(port.shape) >= 2 else None


def answer_of(raw: torch.Tensor, output: Output) -> torch.Tensor:
    """`(N, K)` float32 scores or `(N,)` int64 labels; axes of size 1 behind them are dropped, nothing else is."""
    if output is Output.LABELS:
        return raw.reshape(len(raw)).long() if raw.ndim > 1 and raw.numel() == len(raw) else raw.long()
    flat = raw.flatten(1) if raw.ndim > 2 and raw.numel() == raw.shape[0] * raw.shape[1] else raw
    return flat.float()


def _numbers(port: Port, where: str) -> Port:
    if port.type in DTYPES:
        return port
    listed = port.type.startswith(("seq", "map"))
    raise ModelError(
        "the output is a list of mappings (a ZipMap), not scores" if listed else "the output is no tensor of numbers",
        where=where,
        found=str(port),
        expected=", ".join(DTYPES),
        hint=_ZIPMAP if listed else "set output_name or output_index to another output",
    )


def _is_float(port: Port) -> bool:
    return port.type in DTYPES and DTYPES[port.type][0].is_floating_point
