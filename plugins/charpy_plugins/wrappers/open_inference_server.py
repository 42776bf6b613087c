"""What a server of the Open Inference Protocol v2 says of itself and of one model: ready, metadata, configuration."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from charpy.errors import ModelError, ServiceError, SpecError, unknown_name
from charpy_plugins.wrappers.open_inference_http import Channel, Reply
from charpy_plugins.wrappers.open_inference_wire import DATATYPES, INPUTS, ServedPort, as_document

_FORM = re.compile(r"(https?://[^/?#@\s]+(?:/[^/?#@\s]+)*?/v2)/models/([^/?#@\s]+)(?:/versions/([^/?#@\s]+))?/?")
_LIKE = re.compile(r"https?://.*/v2/models/", re.DOTALL)

CLOSED = frozenset({401, 403, 404, 410})
"""Status codes that are about who asks or what is asked for, not about these images."""

_WAIT = 1.0
"""Seconds between two questions whether a model is ready."""


def is_served(reference: str) -> bool:
    """Whether `reference` means a model of a v2 server; it may still be refused by `parts_of`."""
    return _LIKE.match(reference) is not None


def parts_of(url: str) -> tuple[str, str]:
    """The address of the server's `/v2`, and the name of the model.

    Raises:
        SpecError: another form, or one with a secret in it.
    """
    found = _FORM.fullmatch(url)
    if found is None:
        secret = "@" in url or "?" in url
        raise SpecError(
            "the address holds a user name or a query" if secret else "not the address of a served model",
            where="url",
            # what may be a password is not repeated
            found="`@` or `?` in the address" if secret else url,
            expected="http://HOST:PORT/v2/models/NAME or .../versions/VERSION",
            hint="name an environment variable with the header's value: auth_env" if secret else "correct the address",
        )
    return found[1], unquote(found[2])


def wait_until_ready(channel: Channel, url: str, seconds: float) -> None:
    """Return when the model is ready; a server that cannot say so is taken at its metadata.

    Raises:
        ModelError: no such model, no access, or it is not ready after `seconds`.
        ServiceError: the server does not answer.
    """
    ends = time.monotonic() + seconds
    while True:
        reply = channel.get(f"{url}/ready", patient=False)
        if reply.status == 200:
            return
        if reply.status in CLOSED | {405, 501}:
            refuse(channel, channel.get(url), "the server does not know the model, or does not let us in")
            return
        if time.monotonic() + _WAIT > ends:
            raise ServiceError(
                "the model is not ready",
                where=channel.where,
                found=f"HTTP {reply.status} after {seconds:g} s: {channel.excerpt(reply.body)}",
                expected="HTTP 200",
                hint="look at the server's log; a model that takes long to load wants a larger `ready_seconds`",
            )
        time.sleep(_WAIT)


def refuse(channel: Channel, reply: Reply, what: str) -> None:
    """Raise where `reply` is no success.

    Raises:
        ServiceError: for `CLOSED`: it is not about what was sent.
        ModelError: any other.
    """
    if reply.status == 200:
        return
    closed = reply.status in CLOSED
    text = channel.excerpt(_error_of(reply.body))
    hint = "look at the server's log"
    if reply.status in (401, 403):
        hint = "name the environment variable that holds the header's value: auth_env"
    elif closed:
        hint = "look whether the server has the model under this name and version"
    raise (ServiceError if closed else ModelError)(
        what, where=channel.where, found=f"HTTP {reply.status}: {text}", expected="HTTP 200", hint=hint
    )


def server_of(channel: Channel, root: str) -> dict[str, Any]:
    """The server's name, version and extensions; empty where it does not say."""
    reply = channel.get(root)
    return channel.without_secrets(as_document(reply.body, root)) if reply.status == 200 else {}


def metadata_of(channel: Channel, url: str) -> dict[str, Any]:
    """The model's metadata.

    Raises:
        ModelError: there is none, or it is not what the protocol says.
    """
    reply = channel.get(url)
    refuse(channel, reply, "the server does not tell about the model")
    found: dict[str, Any] = channel.without_secrets(as_document(reply.body, url))
    return found


def largest_batch(channel: Channel, url: str, server: Mapping[str, Any]) -> int | None:
    """`max_batch_size` of the model's configuration, an extension of Triton's; None where nothing is said."""
    extensions = server.get("extensions")
    if not isinstance(extensions, list) or "model_configuration" not in extensions:
        return None
    reply = channel.get(f"{url}/config")
    if reply.status != 200:
        return None
    size = as_document(reply.body, url).get("max_batch_size")
    return size if type(size) is int and size > 0 else None


def ports_of(metadata: Mapping[str, Any], key: str, where: str) -> tuple[ServedPort, ...]:
    """The `inputs` or `outputs` of the metadata; none where it has no such list.

    Raises:
        ModelError: a tensor without a name, a type or a shape.
    """
    ports = []
    for each in metadata.get(key) or ():
        name, datatype, shape = (each.get(part) if isinstance(each, dict) else None for part in _PARTS)
        sizes = isinstance(shape, list) and all(type(size) is int and size >= -1 for size in shape)
        if not isinstance(name, str) or not isinstance(datatype, str) or not isinstance(shape, list) or not sizes:
            raise ModelError(
                f"the metadata's {key} are not what the protocol says",
                where=where,
                found=json.dumps(each)[:200],
                expected="name, datatype and shape of each",
                hint="look at the server's log, and whether the address is that of a v2 model",
            )
        ports.append(ServedPort.named(name, datatype, tuple(None if size < 0 else size for size in shape)))
    return tuple(ports)


_PARTS = ("name", "datatype", "shape")


def input_of(
    ports: Sequence[ServedPort], name: str | None, datatype: str | None, shape: tuple[int, ...] | None, where: str
) -> ServedPort:
    """The input that takes the images; `shape` without the batch, where it is given, is its shape.

    Raises:
        ModelError: several, or nothing is known of it.
        UnknownNameError: none of this name.
    """
    named = [port for port in ports if name in (None, port.name)]
    if ports and not named:
        raise unknown_name("input", str(name), [port.name for port in ports], where=where)
    if len(ports) > 1:
        raise ModelError(
            "the model does not take one batch of images",
            where=where,
            found="; ".join(map(str, ports)),
            expected="one input",
            hint="serve the part that takes images only",
        )
    if not named and shape is None:
        raise ModelError(
            "the server does not say what the model takes",
            where=where,
            found="no inputs in its metadata",
            expected="name, datatype and shape of one input",
            hint="give them in a spec: input_name, datatype, layout, input_shape; or in the server's settings",
        )
    port = named[0] if named else ServedPort.named(name or "input", datatype or "FP32", (None, *(shape or ())))
    if named and shape is not None and not _fits(port.shape[1:], shape):
        raise ModelError(
            "input_shape and layout do not fit the input that the server tells of",
            where=where,
            found=f"{shape} without the batch",
            expected=str(port),
            hint="leave them out, or correct them",
        )
    sizes = port.shape if shape is None else (port.shape[0], *shape)
    port = ServedPort.named(port.name, datatype or port.datatype, sizes)
    if port.datatype not in INPUTS:
        raise ModelError(
            "images cannot be sent as this type",
            where=where,
            found=str(port),
            expected=", ".join(INPUTS),
            hint="serve a model that takes images as numbers",
        )
    return port


def output_of(ports: Sequence[ServedPort], name: str | None, where: str) -> ServedPort | None:
    """The output with the answer: as named, the only one, or the only one with scores `(N, K)`; None if unknown.

    Raises:
        ModelError: several could be meant.
        UnknownNameError: none of this name.
    """
    if name is not None:
        if ports and name not in [port.name for port in ports]:
            raise unknown_name("output", name, [port.name for port in ports], where=where)
        return next((port for port in ports if port.name == name), None)
    numbers = [port for port in ports if port.datatype in DATATYPES]
    scores = [port for port in numbers if is_float(port.datatype) and len(port.shape) == 2]
    if len(ports) <= 1 or len(scores) == 1:
        return next(iter(scores if len(scores) == 1 else ports), None)
    raise ModelError(
        "several outputs could be the answer",
        where=where,
        found="; ".join(map(str, ports)),
        expected="one output with scores (N, K)",
        hint="set output_name",
    )


def is_float(datatype: str) -> bool:
    """Whether it is a type of floating-point numbers."""
    return datatype.startswith("FP")


def _fits(known: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(known) == len(shape) and all(want in (None, have) for want, have in zip(known, shape, strict=True))


def _error_of(body: bytes) -> str | bytes:
    """The protocol's error text, or what stands in its place."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body
