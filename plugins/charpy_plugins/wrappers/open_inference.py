"""A model behind HTTP that speaks the Open Inference Protocol v2 (KServe, Triton, MLServer): a black box."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator

from charpy.errors import ModelError, ServiceError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.threat import Access, Number
from charpy_plugins.wrappers.onnx_layout import Layout, input_form
from charpy_plugins.wrappers.open_inference_batches import Batches
from charpy_plugins.wrappers.open_inference_http import Channel, Manners
from charpy_plugins.wrappers.open_inference_probe import digest_of, fixed_batch
from charpy_plugins.wrappers.open_inference_server import (
    input_of,
    is_float,
    is_served,
    largest_batch,
    metadata_of,
    output_of,
    parts_of,
    ports_of,
    server_of,
    wait_until_ready,
)

PASSES = 3
"""How often they are asked for, before they count as always the same."""


class OpenInferenceModel(Model):
    """A model that a server answers for, over the Open Inference Protocol v2.

    It gives scores or labels, never gradients. What the server says of it, and a digest of its answers to a fixed
    batch, are its identity; other answers than at the beginning end the run.

    Attributes:
        notes: what the reader of a report must know (how it is asked, what could not be found out).
    """

    class Params(BaseParams):
        """Where it is, how images go in and answers come out, and how the server may be asked."""

        url: str = param(min_length=1, description="http://HOST:PORT/v2/models/NAME, or .../versions/VERSION")
        input_name: str | None = param(None, description="the input; from the model's metadata if not given")
        output_name: str | None = param(None, description="the output to take; the only one with scores if not given")
        layout: Layout = param(Layout.AUTO, description="auto: as far as the metadata leaves no doubt; nchw, nhwc, ...")
        input_shape: tuple[int, int, int] | None = param(
            None, description="(C, H, W) of one image, where the metadata leaves it open", unit="pixels"
        )
        datatype: Literal["FP16", "FP32", "FP64", "UINT8", "INT32", "INT64"] | None = param(
            None, description="what images are sent as; from the metadata if not given"
        )
        range: tuple[Number, Number] | None = param(
            None,
            description="what pixel values 0 and 1 become before normalisation; [0, 1], or [0, 255] for whole numbers",
            unit="model input",
        )
        mean: tuple[Number, ...] = param((), description="subtracted after `range`: one value, or one per channel")
        std: tuple[Number, ...] = param((), description="divided by after `mean`: one value, or one per channel")
        output: Literal["auto"] | Output = param("auto", description="auto (by type), logits, probabilities or labels")
        num_classes: int | None = param(None, ge=2, description="K, where labels do not show it")
        batch: int | None = param(None, ge=1, description="rows of a request at most; the server's limit if not given")
        wire: Literal["auto", "json", "binary"] = param(
            "auto", description="auto: raw values if the server says that it takes them, JSON otherwise"
        )
        known_by: Literal["auto", "scores", "labels", "nothing"] = param(
            "auto", description="what of its answers to a fixed batch is its identity; auto: what is always the same"
        )
        parallel: int = param(1, ge=1, le=64, description="requests at the same time")
        timeout_seconds: float = param(60.0, gt=0, le=3600, description="for one answer", unit="s", identity=False)
        retries: int = param(
            5,
            ge=0,
            le=20,
            description="further tries after 429, 502, 503, 504, a time-out or a lost connection",
            identity=False,
        )
        backoff_seconds: float = param(
            0.5, gt=0, le=60, description="before the first further try; doubled for each", unit="s", identity=False
        )
        ready_seconds: float = param(
            60.0, ge=0, le=3600, description="how long the model may take to load", unit="s", identity=False
        )
        requests_per_second: float | None = param(None, gt=0, description="rate limit", unit="1/s", identity=False)
        rows_per_second: float | None = param(None, gt=0, description="rate limit", unit="1/s", identity=False)
        auth_env: str | None = param(
            None, description="NAME of the environment variable that holds the header's value", identity=False
        )
        auth_header: str = param(
            "Authorization", pattern="^[A-Za-z0-9-]+$", description="name of that header", identity=False
        )
        ca_file: str | None = param(
            None, description="PEM file of certificates to trust; the usual ones if not given", identity=False
        )
        answer_mib: int = param(64, ge=1, le=4096, description="largest answer", unit="MiB", identity=False)

        @field_validator("std")
        @classmethod
        def _std_is_positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
            if any(not value > 0 for value in std):
                raise ValueError(f"std must be above 0, got {list(std)}")
            return std

    def __init__(self, params: Params) -> None:
        """Wait until the model is ready and learn what it takes and gives.

        Raises:
            SpecError: another address than of a v2 model, or parameters that do not go together.
            ServiceError: no answer, or no access.
            ModelError: not a classifier of images, or something must be declared.
        """
        super().__init__(params)
        root, name = parts_of(params.url)
        url = params.url.rstrip("/")
        self.notes: list[str] = []
        self._channel = Channel(_manners(params), url)
        if params.auth_env and url.startswith("http://"):
            self.notes.append("the header with the secret travels over plain HTTP")
        with self._channel.masking():
            wait_until_ready(self._channel, url, params.ready_seconds)
            server, metadata = server_of(self._channel, root), metadata_of(self._channel, url)
            limit = params.batch or largest_batch(self._channel, url, server)
            port = input_of(ports_of(metadata, "inputs", url), params.input_name, params.datatype, _sizes(params), url)
            answer = output_of(ports_of(metadata, "outputs", url), params.output_name, url)
        layout = Layout.NCHW if params.layout is Layout.AUTO and params.input_shape else params.layout
        self._form = input_form(port, layout, params.range, params.mean, params.std, url)
        self._port = port
        self.input_shape = params.input_shape or self._form.image_shape
        binary = params.wire == "binary" or (params.wire == "auto" and "binary_tensor_data" in _extensions(server))
        output = params.output_name or (answer.name if answer is not None else None)
        self._batches = Batches(self._channel, name, port, output, limit, params.parallel, binary)
        self.num_classes = params.num_classes
        if self.num_classes is None and answer is not None and is_float(answer.datatype) and len(answer.shape) > 1:
            self.num_classes = answer.shape[1]
        self._probe = fixed_batch(port, self._form.range)
        with self._channel.masking():
            self.output = self._kind(None if answer is None else answer.datatype)
            self.access = Access.LABELS if self.output is Output.LABELS else Access.SCORES
            self._fingerprint = {**_said(server, metadata), **_reading(params), **self._known()}

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `http://HOST:PORT/v2/models/NAME`."""
        return {"url": reference} if is_served(reference) else None

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N, K)` scores or int64 `(N,)` labels of float32 `(N, C, H, W)` images in [0, 1]; no gradients.

        Raises:
            ServiceError: the server is gone, or another model answers.
            ModelError: an answer that is none.
        """
        feed = self._form.feed(images.detach().cpu()).contiguous().numpy()
        with self._channel.masking():
            answer = self._batches.ask(feed, self.output)
        return torch.from_numpy(answer.astype(np.int64 if self.output is Output.LABELS else np.float32))

    def fingerprint(self) -> Mapping[str, str]:
        """What the server says of itself and of the model, a digest of answers to a fixed batch, how it is read."""
        return dict(self._fingerprint)

    def state_digest(self) -> str:
        """Asks for the fixed batch again.

        Raises:
            ServiceError: other answers than when the model was opened.
        """
        before = self._fingerprint.get("answers", "")
        if not before or self._probe is None:
            return ""
        with self._channel.masking():
            now = digest_of(self._batches.ask(self._probe, self.output), self._fingerprint["known by"])
        if now != before:
            raise ServiceError(
                "the server gives other answers to a fixed batch than when it was opened",
                where=self._channel.where,
                found=f"digest {now[:12]}",
                expected=before[:12],
                hint="another model is served under the name, or its scores waver: then set known_by: labels",
            )
        return now

    def _kind(self, datatype: str | None) -> Output:
        """What the answers are: as declared, or by the type of an answer, or of the output that the metadata tells."""
        declared = None if self.params.output == "auto" else Output(self.params.output)
        if self._probe is not None:
            whole = self._first_answer(self._probe).dtype.kind in "iu"
        elif datatype is not None:
            whole = not is_float(datatype)
        elif declared is not None:
            return declared
        else:
            raise ModelError(
                "what the model answers is not known",
                where=self._channel.where,
                found="no outputs in its metadata",
                expected="logits, probabilities or labels",
                hint="set `output`, or `input_shape`, with which it can be asked",
            )
        found = declared or (Output.LABELS if whole else Output.LOGITS)
        if whole is not (found is Output.LABELS):
            raise ModelError(
                f"the output cannot be {found}",
                where=self._channel.where,
                found="whole numbers" if whole else "floating-point numbers",
                expected="whole numbers for labels, floating-point numbers for scores",
                hint="leave `output` to auto, or set output_name",
            )
        return found

    def _first_answer(self, probe: NDArray[Any]) -> NDArray[Any]:
        """An answer to the fixed batch; JSON takes the place of raw values where those are refused."""
        try:
            return self._batches.ask(probe, None)
        except ServiceError:
            raise
        except ModelError as cause:
            if not self._batches.binary or self.params.wire == "binary":
                raise
            self._batches.binary = False
            answer = self._batches.ask(probe, None)
            self.notes.append(f"raw values are offered, but refused ({cause.found}); JSON is sent")
            return answer

    def _known(self) -> dict[str, str]:
        """A digest of what is always the same in the answers to the fixed batch, and what that is."""
        wanted = self.params.known_by
        if wanted == "nothing":
            return {}
        if self._probe is None:
            self.notes.append("its answers are no part of its identity: the shape of its images is not known")
            return {}
        answers = [self._batches.ask(self._probe, self.output) for _ in range(PASSES)]
        for by in ("scores", "labels") if wanted == "auto" else (wanted,):
            digests = {digest_of(answer, by) for answer in answers}
            if len(digests) == 1:
                return {"answers": digests.pop(), "known by": by}
        self.notes.append("its answers are no part of its identity: a fixed batch gets other ones each time")
        return {}


def _sizes(params: OpenInferenceModel.Params) -> tuple[int, ...] | None:
    """The shape of one image on the wire, where it is given."""
    if params.input_shape is None:
        return None
    channels, height, width = params.input_shape
    if params.layout in (Layout.FLAT_CHW, Layout.FLAT_HWC):
        return (channels * height * width,)
    return (height, width, channels) if params.layout is Layout.NHWC else (channels, height, width)


def _manners(params: OpenInferenceModel.Params) -> Manners:
    return Manners(
        timeout=params.timeout_seconds,
        retries=params.retries,
        backoff=params.backoff_seconds,
        cap=params.answer_mib * 2**20,
        requests_per_second=params.requests_per_second,
        rows_per_second=params.rows_per_second,
        parallel=params.parallel,
        ca_file=params.ca_file,
        auth_header=params.auth_header,
        auth_env=params.auth_env,
    )


def _extensions(server: Mapping[str, Any]) -> list[Any]:
    found = server.get("extensions")
    return found if isinstance(found, list) else []


def _said(server: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    """What the server says of itself and of the model."""
    told = {"server": server.get("name"), "server version": server.get("version")}
    told |= {name: metadata.get(name) for name in ("name", "versions", "platform", "inputs", "outputs")}
    return {name: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for name, v in told.items() if v}


def _reading(params: OpenInferenceModel.Params) -> dict[str, str]:
    """How it is read, which is part of what the model is."""
    read = {"input_name", "output_name", "layout", "input_shape", "datatype", "range", "mean", "std", "output"}
    kept = params.model_dump(mode="json", include=read, exclude_defaults=True)
    return {key: str(value) for key, value in kept.items()}
