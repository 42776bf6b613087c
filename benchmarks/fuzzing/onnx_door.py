"""The door of ONNX files: inspected, opened, asked, and where bounds can be computed, proven from."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.descriptor import FieldDescriptor

from charpy.bounds.networks import why_not
from charpy.errors import CharpyError
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.preflight import preflight
from charpy.threat import Norm, ThreatModel
from fuzzing import networks
from fuzzing.door import Door, WrongAnswerError
from fuzzing.noise import EDGES, noise

WEIGHTS = np.random.default_rng(1).normal(size=72).astype(np.float32).tobytes()
LOCATIONS = (
    "w.bin",
    "../w.bin",
    "/etc/hostname",
    "link.bin",
    "sub/w.bin",
    "*/_ORT_MEM_ADDR_/*",
    "",
    ".",
    "w.bin\0",
    "pipe.bin",
)
LARGEST_IMAGE = 1 << 20
"""Values of an image; a graph may want larger ones, and the fuzzer has none."""


class OnnxFiles(Door):
    """Bytes of an ONNX file, with weights beside it."""

    name, title = "onnx", "ONNX files"
    ways = "fields of every message (nodes, edges, attributes, shapes, types, tensors, places of weights); bytes"
    memory_gib = 6.0  # a tensor of 4 GiB is allowed
    largest = 1 << 15

    def seeds(self) -> list[bytes]:
        """Eleven networks of one to seventeen operators."""
        made = [networks.linear(), networks.convolutional(), networks.convolutional(3), networks.of_many_operators()]
        made += [networks.with_loop(), networks.with_function(), networks.with_labels(), networks.quantised()]
        return made + [networks.with_weights_beside(place) for place in ("w.bin", "sub/w.bin")]

    def mutate(self, data: bytes, random: Random) -> bytes:
        """One to four fields of messages changed; of one input in eight the bytes."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except Exception:  # noqa: BLE001 - protobuf's own type
            return noise(data, random)
        if random.random() < 0.12:
            return noise(data, random)
        for _ in range(random.choice((1, 1, 2, 4))):
            _change(model, random)
        try:
            return bytes(model.SerializeToString())
        except Exception:  # noqa: BLE001 - a text that is no UTF-8
            return noise(data, random)

    def open(self, data: bytes, folder: Path) -> None:
        """As a run does: open, look at the answers, ask, free the batch axis, compute bounds."""
        _beside(folder)
        (folder / "m" / "net.onnx").write_bytes(data)
        torch.manual_seed(0)
        params = {"path": str(folder / "m" / "net.onnx"), "device": "cpu", "run_seconds": 3.0}
        model = registry().create("models", "onnx", params)
        shape = model.input_shape or (1, 6, 6)
        if np.prod(shape, dtype=object) > LARGEST_IMAGE:
            return
        images = torch.rand(4, *shape)
        preflight(model, images)
        answer = model.predict(images)
        if len(answer) != len(images):
            raise WrongAnswerError(f"other rows than images: {tuple(answer.shape)}")
        for build in model.forwards().values():
            try:
                build()(images)
            except Exception:  # noqa: BLE001 - the query engine goes on without it
                continue
        if not why_not(model) and model.output is not Output.LABELS:
            _proven(model, images, answer.argmax(1))


def _beside(folder: Path) -> None:
    """The file's folder: weights where they may be, and where they must not be read from."""
    (folder / "m" / "sub").mkdir(parents=True)
    for place in ("w.bin", "m/w.bin", "m/sub/w.bin"):
        (folder / place).write_bytes(WEIGHTS)
    (folder / "m" / "link.bin").symlink_to(folder / "w.bin")


def _proven(model: Any, images: torch.Tensor, labels: torch.Tensor) -> None:
    """What is proven of the images holds for images beside them."""
    threat = ThreatModel.at_level(Norm.LINF, 2)
    certifier = registry().create("certifiers", "crown", {"seconds": 1.0})
    proven = certifier.certify(model, images, labels, threat)
    for _ in range(4):
        steps = (torch.randint(0, 3, images.shape) - 1) * (2 / 255)
        beside = model.predict((images + steps).clamp(0, 1))
        if bool((proven & (beside.argmax(1) != labels)).any()):
            raise WrongAnswerError("a proof that does not hold: crown, linf th=2")


def _change(model: Any, random: Random) -> None:
    """One field of one message, the graph's parts more often than what is around them."""
    messages = [message for message in _messages(model) if message.DESCRIPTOR.fields]
    nodes = [message for message in messages if isinstance(message, onnx.NodeProto)]
    message = random.choice(nodes) if nodes and random.random() < 0.3 else random.choice(messages)
    fields = [field for field, _ in message.ListFields()] or list(message.DESCRIPTOR.fields)
    field = random.choice(fields if random.random() < 0.8 else list(message.DESCRIPTOR.fields))
    try:
        if _repeated(field):
            _change_list(message, field, messages, random)
        elif field.message_type is not None:
            _replace(getattr(message, field.name), messages, random)
        else:
            setattr(message, field.name, _scalar(getattr(message, field.name), field, model, random))
    except (TypeError, ValueError, CharpyError):
        return  # no such value in this field


def _repeated(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED) if repeated is None else bool(repeated)


def _messages(root: Any) -> list[Any]:
    found, open_messages = [], [root]
    while open_messages and len(found) < 3000:
        message = open_messages.pop()
        found.append(message)
        for field, value in message.ListFields():
            if field.message_type is not None:
                open_messages.extend([value] if hasattr(value, "ListFields") else value)
    return found


def _change_list(message: Any, field: Any, messages: list[Any], random: Random) -> None:
    values = getattr(message, field.name)
    at = random.randrange(len(values)) if len(values) else 0
    if field.message_type is not None:
        match random.randrange(4):
            case 0 if len(values):
                del values[at]
            case 1 if len(values):
                values.add().CopyFrom(copy.deepcopy(values[at]))
            case 2 if len(values) > 1:
                kept = [copy.deepcopy(value) for value in values]
                random.shuffle(kept)
                del values[:]
                values.extend(kept)
            case _:
                _replace(values.add(), messages, random)
        return
    like = values[at] if len(values) else None
    new = _scalar(like if like is not None else _default(field), field, message, random)
    match random.randrange(4):
        case 0 if len(values):
            del values[at]
        case 1 | 2 if len(values):
            values[at] = new
        case _:
            values.insert(at, new)


def _replace(target: Any, messages: list[Any], random: Random) -> None:
    """Another message of the same kind in its place, or an empty one."""
    others = [message for message in messages if type(message) is type(target)]
    chosen = copy.deepcopy(random.choice(others)) if others and random.random() < 0.8 else type(target)()
    target.CopyFrom(chosen)


def _default(field: Any) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
    return 0.0 if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE) else 0


def _scalar(value: Any, field: Any, within: Any, random: Random) -> Any:
    if isinstance(value, bytes):
        return noise(value, random)[: 1 << 12]
    if isinstance(value, str):
        return _text(field.name, within, random)
    if isinstance(value, float):
        return random.choice((0.0, -1.0, 1e30, float("inf"), float("nan"), value * 2, -value, 1e-30))
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    small = (-2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 17, 21, 36, 64, 1000)
    number = random.choice((*small, *small, *EDGES, value + 1, value - 1, -value, 10**5, 10**6))
    return number if -(2**63) <= number < 2**63 else number - 2**64


def _text(field: str, within: Any, random: Random) -> str:
    if field == "op_type":
        return random.choice(_operators())
    if field == "domain":
        return random.choice(
            ("", "", "ai.onnx", "ai.onnx.ml", "com.microsoft", "own", "evil", "ai.onnx.preview.training")
        )
    if field in ("value", "location"):
        return random.choice((*LOCATIONS, "0", "-1", "288", "4096", str(2**63), "1e3", "0x10"))
    if field in ("key", "external_data"):
        return random.choice(("location", "offset", "length", "checksum", "basepath"))
    names = ["", "x", "y", "f", "w", "b", "N", "missing", "é", "a/b", "x" * 300]
    if isinstance(within, onnx.ModelProto):
        names += [name for node in within.graph.node for name in (*node.input, *node.output)]
        names += [each.name for node in within.graph.node for each in node.attribute]
        names += [
            "axis",
            "axes",
            "kernel_shape",
            "pads",
            "strides",
            "dilations",
            "group",
            "to",
            "perm",
            "keepdims",
            "mode",
        ]
    return random.choice(names)


@cache
def _operators() -> tuple[str, ...]:
    schemas = onnx.defs.get_all_schemas()
    return tuple(
        sorted(
            {schema.name for schema in schemas if schema.domain in ("", "ai.onnx.ml")}
            | {"Gelu", "QAttention", "EPContext"}
        )
    )
