"""Tensors of the Open Inference Protocol v2 as bytes and back: JSON, or JSON followed by raw values.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and its binary tensor extension:
little-endian values behind the JSON, whose length stands in a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.errors import ModelError
from charpy_plugins.wrappers.onnx_session import Port

LENGTH = "inference-header-content-length"
"""The header that says how long the JSON before the raw values is."""

DATATYPES = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "UINT8": "u1",
    "INT8": "i1",
    "UINT16": "<u2",
    "INT16": "<i2",
    "UINT32": "<u4",
    "INT32": "<i4",
    "UINT64": "<u8",
    "INT64": "<i8",
}
"""The protocol's names of types, and numpy's."""

INPUTS = {
    "FP32": "tensor(float)",
    "FP16": "tensor(float16)",
    "FP64": "tensor(double)",
    "UINT8": "tensor(uint8)",
    "INT32": "tensor(int32)",
    "INT64": "tensor(int64)",
}
"""The types that images can be sent as, and what an ONNX graph calls them."""


@dataclass(frozen=True)
class ServedPort(Port):
    """An input or output of a served model; `type` is ONNX's name of it, '' where there is none."""

    datatype: str = ""

    def __str__(self) -> str:
        """As the protocol would say it."""
        return (
            f"{self.name!r} {self.datatype} [{', '.join('-1' if size is None else str(size) for size in self.shape)}]"
        )

    @classmethod
    def named(cls, name: str, datatype: str, shape: tuple[int | None, ...]) -> ServedPort:
        """From the protocol's words."""
        return cls(name, INPUTS.get(datatype, ""), shape, datatype)


def encode(port: ServedPort, batch: NDArray[Any], output: str | None, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request for the answer to `batch`, from `output` if it is named."""
    tensor: dict[str, Any] = {"name": port.name, "shape": list(batch.shape), "datatype": port.datatype}
    wanted: list[dict[str, Any]] = [{"name": output}] if output is not None else []
    document: dict[str, Any] = {"inputs": [tensor]}
    raw = b""
    if binary:
        raw = np.ascontiguousarray(batch, dtype=DATATYPES[port.datatype]).tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
        wanted = [{**each, "parameters": {"binary_data": True}} for each in wanted]
        if not wanted:
            document["parameters"] = {"binary_data_output": True}
    else:
        # float32 values are doubles, too: their decimal forms lead back to the same bits
        tensor["data"] = batch.ravel().tolist()
    if wanted:
        document["outputs"] = wanted
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    if not binary:
        return text, {"content-type": "application/json"}
    return text + raw, {"content-type": "application/octet-stream", LENGTH: str(len(text))}


def decode(body: bytes, headers: Mapping[str, str], where: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The document of an answer, and its tensors by name.

    A JSON `null` in a floating-point tensor is NaN: servers have no other way to write it.

    Raises:
        ModelError: no JSON, or no tensors as the protocol has them.
    """
    length = headers.get(LENGTH)
    if length is None:
        document, raw = as_document(body, where), b""
    elif length.isdecimal() and int(length) <= len(body):
        document, raw = as_document(body[: int(length)], where), body[int(length) :]
    else:
        raise _wrong(f"{LENGTH}: {length[:20]} in {len(body)} bytes", "the length of the JSON", where)
    outputs = document.get("outputs")
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs) or not outputs:
        raise _wrong(f"outputs: {_short(outputs)}", "a list of tensors in `outputs`", where)
    tensors, offset = {}, 0
    for each in outputs:
        size = _binary_size(each)
        tensors[str(each.get("name"))] = _tensor(each, raw[offset : offset + (size or 0)], size, where)
        offset += size or 0
    return document, tensors


def as_document(body: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        ModelError: there is none; what is there is shown.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as cause:
        page = body.lstrip()[:1] == b"<"
        raise ModelError(
            "the answer is a page, not JSON" if page else "the answer is not JSON",
            where=where,
            found=f"{len(body)} bytes: {_short(body.decode('utf-8', 'replace'))}",
            expected="a JSON object of the Open Inference Protocol v2",
            hint="look for a proxy that answers in the server's place"
            if page
            else f"it is cut off or damaged ({type(cause).__name__}): look at the server's log",
        ) from None
    if not isinstance(found, dict):
        raise _wrong(_short(found), "a JSON object", where)
    return found


def _tensor(described: Mapping[str, Any], raw: bytes, size: int | None, where: str) -> NDArray[Any]:
    shape, datatype = described.get("shape"), described.get("datatype")
    place = f"{where}, output {_short(described.get('name'))}"
    if not isinstance(shape, list) or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise _wrong(f"shape {_short(shape)}", "a list of whole numbers", place)
    if datatype not in DATATYPES:
        raise ModelError(
            "the answer is no tensor of numbers",
            where=place,
            found=f"datatype {_short(datatype)}",
            expected=", ".join(DATATYPES),
            hint="set output_name to the output with the scores, or have the server answer with class numbers",
        )
    kind = np.dtype(DATATYPES[datatype])
    if size is not None:
        if len(raw) != size or size != prod(shape) * kind.itemsize:
            raise _wrong(f"{len(raw)} bytes for {datatype} {shape}", f"{prod(shape) * kind.itemsize} bytes", place)
        return np.frombuffer(raw, kind).reshape(shape)
    values = _numbers(described.get("data"), kind, place)
    if values.size != prod(shape):
        raise _wrong(f"{values.size} values for shape {shape}", f"{prod(shape)} values", place)
    return values.reshape(shape)


def _numbers(data: Any, kind: np.dtype[Any], where: str) -> NDArray[Any]:
    """`data`, flat or nested, as an array of `kind`; texts, truth values and ragged lists are refused."""
    if not isinstance(data, list):
        raise _wrong(f"data {_short(data)}", "a list of numbers", where)
    try:
        found = np.asarray(data)
        if found.dtype == object and kind.kind == "f":
            allowed = {type(None), int, float}
            if {type(value) for value in found.ravel()} <= allowed:
                found = found.astype(np.float64)
    except (ValueError, OverflowError):
        found = np.asarray(["ragged"])
    if found.size and (found.dtype.kind not in "fiu" or (kind.kind in "iu" and found.dtype.kind == "f")):
        raise _wrong(f"data {_short(data)}", f"numbers of type {kind.name}", where)
    if kind.kind in "iu" and found.size:
        limits = np.iinfo(kind)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise _wrong(f"values {found.min()}..{found.max()}", f"{limits.min}..{limits.max}", where)
    with np.errstate(over="ignore"):
        return found.astype(kind)


def _binary_size(described: Mapping[str, Any]) -> int | None:
    parameters = described.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None


def _wrong(found: str, expected: str, where: str) -> ModelError:
    return ModelError(
        "the answer does not follow the protocol",
        where=where,
        found=found,
        expected=expected,
        hint="look at the server's log, and whether the address is that of a v2 model",
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
