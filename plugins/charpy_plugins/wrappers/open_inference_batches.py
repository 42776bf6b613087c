"""A batch of any size to a served model and its answers back: in pieces that the server takes, several at a time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.errors import ModelError, ServiceError
from charpy.interfaces.model import Output
from charpy_plugins.wrappers.open_inference_http import Channel
from charpy_plugins.wrappers.open_inference_server import refuse
from charpy_plugins.wrappers.open_inference_wire import ServedPort, decode, encode

VALUES = 2**20
"""Values of a request at most: about 20 MB of JSON."""


@dataclass
class Batches:
    """Asks for answers.

    Attributes:
        channel: to the server.
        name: of the model.
        port: the input; where its batch is fixed, the last piece is padded to it.
        output: name of the output, None for the only one.
        limit: rows that the server takes at once; None where it does not say.
        parallel: requests at the same time; a batch is split into as many at least.
        binary: raw values are sent and asked for.
    """

    channel: Channel
    name: str
    port: ServedPort
    output: str | None
    limit: int | None
    parallel: int
    binary: bool
    _versions: set[str] = field(default_factory=set)

    def ask(self, feed: NDArray[Any], kind: Output | None) -> NDArray[Any]:
        """What the model says of `feed` `(M, ...)`: `(M, K)` scores or `(M,)` labels; as it is where `kind` is None.

        Raises:
            ServiceError: the server is gone, or another version of the model answers.
            ModelError: an answer that is none.
        """
        fixed = self.port.shape[0]
        most = fixed or max(1, min(self.limit or len(feed), VALUES // max(1, prod(feed.shape[1:]))))
        size = fixed or min(most, -(-len(feed) // self.parallel))
        pieces = [feed[i : i + size] for i in range(0, len(feed), size)]
        if self.parallel == 1 or len(pieces) == 1:
            answers = [self._piece(piece, kind) for piece in pieces]
        else:
            with ThreadPoolExecutor(self.parallel) as pool:
                answers = list(pool.map(lambda piece: self._piece(piece, kind), pieces))
        if len({answer.shape[1:] for answer in answers}) > 1:
            raise self._wrong(f"shapes {sorted({answer.shape for answer in answers})}", "one number of classes")
        return np.concatenate(answers)

    def _piece(self, piece: NDArray[Any], kind: Output | None) -> NDArray[Any]:
        rows, fixed = len(piece), self.port.shape[0]
        if fixed is not None and rows < fixed:
            piece = np.concatenate([piece, np.repeat(piece[-1:], fixed - rows, axis=0)])
        body, headers = encode(self.port, piece, self.output, binary=self.binary)
        reply = self.channel.post(f"{self.channel.where}/infer", body, headers, len(piece))
        refuse(self.channel, reply, "the server refuses the images")
        document, tensors = decode(reply.body, reply.headers, self.channel.where)
        self._same_model(document)
        answer = self._chosen(tensors)
        if answer.ndim == 0 or len(answer) != len(piece):
            raise self._wrong(f"shape {list(answer.shape)} for a batch of {len(piece)}", f"{len(piece)} rows")
        return (answer if kind is None else self._formed(answer, kind))[:rows]

    def _chosen(self, tensors: dict[str, NDArray[Any]]) -> NDArray[Any]:
        if self.output is not None and self.output in tensors:
            return tensors[self.output]
        if self.output is None and len(tensors) == 1:
            return next(iter(tensors.values()))
        raise self._wrong(
            f"outputs {', '.join(tensors)}"[:200],
            f"output {self.output}" if self.output else "one output, or output_name",
        )

    def _formed(self, answer: NDArray[Any], kind: Output) -> NDArray[Any]:
        """`(M, K)` scores or `(M,)` labels; axes of size 1 behind them are dropped, nothing else is."""
        rows, labels = len(answer), kind is Output.LABELS
        if (answer.dtype.kind in "iu") is not labels:
            raise self._wrong(f"values of type {answer.dtype.name}", "class numbers" if labels else "scores")
        if labels and answer.size == rows:
            return answer.reshape(rows)
        if not labels and answer.ndim >= 2 and answer.size == rows * answer.shape[1] and answer.shape[1] > 1:
            return answer.reshape(rows, -1)
        raise self._wrong(
            f"shape {list(answer.shape)} for a batch of {rows}", f"({rows},)" if labels else f"({rows}, K), K >= 2"
        )

    def _same_model(self, document: dict[str, Any]) -> None:
        """Refuse an answer by another model or version than those before it."""
        name, version = document.get("model_name"), document.get("model_version")
        if name not in (None, self.name):
            raise self._wrong(f"model {json.dumps(name)[:100]}", f"model {self.name}")
        if version in (None, ""):
            return
        self._versions.add(str(version))
        if len(self._versions) > 1:
            raise ServiceError(
                "another version of the model answers now",
                where=self.channel.where,
                found=", ".join(sorted(self._versions)),
                expected="one version from beginning to end",
                hint="name the version in the address: .../versions/VERSION",
            )

    def _wrong(self, found: str, expected: str) -> ModelError:
        return ModelError(
            "the server's answer has the wrong form",
            where=self.channel.where,
            found=found,
            expected=expected,
            hint="look at what the model returns for one batch; set output_name if it has several outputs",
        )
