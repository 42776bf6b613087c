"""An ONNX file as a model, through ONNX Runtime: scores, probabilities or labels, no gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import field_validator

from charpy.bounds.graph import UnsupportedError
from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.threat import Access, Number
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.onnx_batch import free_batch_axis, free_unset_axes
from charpy_plugins.wrappers.onnx_guard import inspect
from charpy_plugins.wrappers.onnx_layout import Layout, input_form
from charpy_plugins.wrappers.onnx_output import answer_of, choose_output, kind_of_output, num_classes_of
from charpy_plugins.wrappers.onnx_session import Port, Session

if TYPE_CHECKING:
    from charpy.bounds.graph import Graph
    from charpy.interfaces.model import Forward


class OnnxModel(Model):
    """An ONNX file, run by ONNX Runtime on the GPU when there is one, on the CPU otherwise.

    The file is inspected before ONNX Runtime sees it (`onnx_guard`). A graph with a fixed batch size is run in pieces
    of that size, the last one padded.

    Attributes:
        notes: what the reader of a report must know (which output was taken, why it is not on the GPU).
    """

    class Params(BaseParams):
        """The file, and how images go in and answers come out."""

        path: str = param(
            min_length=1, description="the .onnx file; weight files that it names lie in its folder", identity=False
        )
        layout: Layout = param(
            Layout.AUTO, description="auto: as far as the input's shape leaves no doubt; nchw, nhwc, flat_chw, flat_hwc"
        )
        range: tuple[Number, Number] | None = param(
            None,
            description="what pixel values 0 and 1 become before normalisation; [0, 1], or [0, 255] for whole numbers",
            unit="model input",
        )
        mean: tuple[Number, ...] = param(
            (), description="subtracted after `range`: one value, or one per channel", unit="model input"
        )
        std: tuple[Number, ...] = param(
            (), description="divided by after `mean`: one value, or one per channel", unit="model input"
        )
        output: Literal["auto"] | Output = param(
            "auto", description="auto (by type and last operator), logits, probabilities or labels"
        )
        output_name: str | None = param(None, description="the output to take, by name")
        output_index: int | None = param(None, ge=0, description="the output to take, by position")
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")
        run_seconds: float = param(
            60.0, gt=0, description="longest run of one batch; watched where the graph has loops", unit="s"
        )

        @field_validator("std")
        @classmethod
        def _std_is_positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
            if any(not value > 0 for value in std):
                raise ValueError(f"std must be above 0, got {list(std)}")
            return std

    def __init__(self, params: Params) -> None:
        """Inspect and open the file.

        Raises:
            UnsafeFileError: see `onnx_guard.inspect`.
            ModelError: not a classifier of images, or its layout or output must be declared.
        """
        super().__init__(params)
        path = Path(params.path)
        inspected = inspect(path)
        self._proto = inspected.proto
        free_unset_axes(self._proto)
        self._seconds = params.run_seconds if inspected.loops else None
        self._session = Session(inspected.data, pick_device(params.device), where=params.path, seconds=self._seconds)
        self.notes = list(self._session.notes)
        port = _only_input(self._session, params.path)
        self._form = input_form(port, params.layout, params.range, params.mean, params.std, params.path)
        self._answer = choose_output(self._session.outputs, params.output_name, params.output_index, params.path)
        if len(self._session.outputs) > 1:
            self.notes.append(f"of {len(self._session.outputs)} outputs, {self._answer.name!r} is the answer")
        declared = None if params.output == "auto" else Output(params.output)
        self.output = kind_of_output(self._answer, self._proto.graph, declared, params.path)
        self.access = Access.LABELS if self.output is Output.LABELS else Access.SCORES
        self.num_classes = num_classes_of(self._answer, self.output)
        self.input_shape = self._form.image_shape
        self._seen_shape = self.input_shape
        self._fingerprint = {**inspected.fingerprint, **_reading(params), **_version()}

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `FILE.onnx`."""
        return {"path": reference} if reference.lower().endswith(".onnx") else None

    @classmethod
    def wrap(cls, subject: object) -> Self | None:
        """A model from a path that ends in .onnx."""
        if not isinstance(subject, str | Path) or not str(subject).lower().endswith(".onnx"):
            return None
        return cls(cls.Params(path=str(subject)))

    @property
    def device(self) -> torch.device:
        """Where ONNX Runtime computes."""
        return self._session.device

    @property
    def batch(self) -> int | None:
        """The batch size that the graph is made for; None when it takes any."""
        return self._form.port.shape[0]

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N, K)` scores or int64 `(N,)` labels of float32 `(N, C, H, W)` images in [0, 1]; no gradients."""
        self._seen_shape = (images.shape[1], images.shape[2], images.shape[3])
        feed = self._form.feed(images.detach().to(self.device))
        return answer_of(self._run(self._session, feed, self.batch), self.output)

    def fingerprint(self) -> Mapping[str, str]:
        """Digests of the file and of every file that it names, how it is read, and the version of ONNX Runtime."""
        return dict(self._fingerprint)

    def forwards(self) -> Mapping[str, Callable[[], Forward]]:
        """For a graph with a fixed batch size: the same graph with the batch axis free. `predict` is fast otherwise."""
        return {"onnxruntime, batch axis freed": self._freed} if self.batch is not None else {}

    def graph(self) -> Graph | None:
        """The file's graph behind what is done to the images, without a last Softmax.

        None where the file leaves the shape of its images open and none have been seen yet.

        Raises:
            UnsupportedError: it answers with labels, takes whole numbers, or has an operator that is not supported.
        """
        from charpy.bounds.from_onnx import graph_of_onnx

        if self.output is Output.LABELS:
            raise UnsupportedError(
                "the model answers with labels, not with scores",
                where=self.params.path,
                found=str(self._answer),
                hint="set output_name or output_index to an output with scores, or export the model without ArgMax",
            )
        shape, path = self.input_shape or self._seen_shape, self.params.path
        if shape is None:
            return None
        graph = graph_of_onnx(self._proto, shape, output=self._answer.name, prepare=self._form.add_to, where=path)
        return graph.to(torch.zeros((), device=self.device))

    def _freed(self) -> Forward:
        batch = self.batch
        if batch is None:
            raise ModelError("the batch axis is free already")
        data = free_batch_axis(self._proto, self._form.port.name, batch)
        session = Session(data, self.device, where=self.params.path, seconds=self._seconds)

        def forward(images: torch.Tensor) -> torch.Tensor:
            return answer_of(self._run(session, self._form.feed(images), None), self.output)

        return forward

    def _run(self, session: Session, feed: torch.Tensor, batch: int | None) -> torch.Tensor:
        name, answer = self._form.port.name, next(port for port in session.outputs if port.name == self._answer.name)
        if batch is None:
            return session.run(name, feed, answer)
        pieces = []
        for piece in feed.split(batch):  # type: ignore[no-untyped-call]
            missing = batch - len(piece)
            full = torch.cat([piece, piece[-1:].expand(missing, *piece.shape[1:])]) if missing else piece
            pieces.append(session.run(name, full, answer))
        return torch.cat(pieces)[: len(feed)]


def _only_input(session: Session, where: str) -> Port:
    if len(session.inputs) != 1:
        raise ModelError(
            "the graph does not take one batch of images",
            where=where,
            found="; ".join(str(port) for port in session.inputs) or "no input",
            expected="one input",
            hint="export a graph that takes images only",
        )
    return session.inputs[0]


def _reading(params: OnnxModel.Params) -> dict[str, str]:
    """How the file is read, which is part of what the model is."""
    kept = params.model_dump(mode="json", exclude={"path", "device", "run_seconds"}, exclude_defaults=True)
    return {key: str(value) for key, value in kept.items()}


def _version() -> dict[str, str]:
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}
