"""A PyTorch module as a model: differentiable, in eval mode, on a private copy."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.questioner import describe
from charpy.threat import Access
from charpy_plugins.wrappers import digests
from charpy_plugins.wrappers.architectures import build, load_into
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.weights import load_weights

if TYPE_CHECKING:
    from charpy.bounds.graph import Graph
    from charpy.interfaces.model import Forward

WEIGHT_SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".model"})


class TorchModel(Model):
    """A PyTorch module with its weights; gradients pass through it.

    The module is held in eval mode and its parameters need no gradient: the only gradient is that of the images.
    `predict` leaves the grad mode to its caller and touches no global state.

    Attributes:
        module: the private copy that answers.
        notes: what the reader of a report must know (answers that were converted, images that were copied).
    """

    class Params(BaseParams):
        """Where the weights are and which architecture they belong to."""

        weights: str = param(
            min_length=1, description="a .safetensors file or a state dict saved by torch.save", identity=False
        )
        architecture: str = param(
            min_length=1,
            description="package.module:callable that returns an nn.Module, or the kind of a zoo model",
        )
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")
        output: Output = param(Output.LOGITS, description="what the module returns: logits, probabilities or labels")
        input_shape: tuple[int, int, int] | None = param(
            None, description="(C, H, W) of one image; a zoo model knows its own, an export needs it", unit="pixels"
        )

    module: torch.nn.Module
    _seen_shape: tuple[int, int, int] | None

    def __init__(self, params: Params) -> None:
        """Build the architecture and fill in the weights; nothing of a weight file is executed."""
        super().__init__(params)
        module, zoo = build(params.architecture)
        loaded = load_weights(Path(params.weights))
        load_into(module, loaded.state, params.weights, params.architecture)
        self._adopt(
            module,
            output=params.output,
            input_shape=params.input_shape or getattr(zoo, "input_shape", None),
            num_classes=getattr(zoo, "num_classes", None),
            device=pick_device(params.device),
            fingerprint={"weights": loaded.sha256, "architecture": params.architecture},
        )

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        *,
        output: Output = Output.LOGITS,
        input_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        device: str | torch.device | None = None,
        fingerprint: Mapping[str, str] | None = None,
    ) -> Self:
        """This model around `module` as it is; a deep copy answers, so that the caller's module is never changed.

        Args:
            module: maps float32 `(N, C, H, W)` in [0, 1] to `(N, K)` scores (or `(N,)` labels).
            output: what it returns.
            input_shape: `(C, H, W)`, if it takes only that.
            num_classes: K, if known.
            device: where it is to compute; where it is now if not given.
            fingerprint: its identity, if the caller knows it better than a digest of the weights.
        """
        model = cls.__new__(cls)
        model.params = None
        try:
            private = copy.deepcopy(module)
        except Exception as cause:
            raise ModelError(
                "the module cannot be copied",
                where=type(module).__qualname__,
                found=f"{type(cause).__name__}: {cause}",
                expected="a module that copy.deepcopy accepts",
                hint="use torch.nn.utils.parametrizations instead of the old weight_norm; keep no graph tensors in it",
            ) from cause
        place = _device_of(private) if device is None else pick_device(str(device))
        model._adopt(
            private,
            output=output,
            input_shape=input_shape,
            num_classes=num_classes,
            device=place,
            fingerprint=fingerprint,
        )
        return model

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `weights.safetensors@architecture`."""
        weights, _, architecture = reference.rpartition("@")
        if cls is not TorchModel or not weights or not architecture:
            return None
        if Path(weights).suffix.lower() not in WEIGHT_SUFFIXES and not os.path.isfile(weights):
            return None
        return {"weights": weights, "architecture": architecture}

    @classmethod
    def wrap(cls, subject: object) -> Self | None:
        """A model around a torch module; None for anything else (and from subclasses, which bring their own module)."""
        if cls is not TorchModel or not isinstance(subject, torch.nn.Module):
            return None
        return cls.from_module(subject)

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return self._device

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` float32, or labels `(N,)` int64, of float32 `(N, C, H, W)` in [0, 1]; differentiable."""
        self._seen_shape = (images.shape[1], images.shape[2], images.shape[3])
        answer = self._forward(images)
        if not isinstance(answer, torch.Tensor):
            raise ModelError(
                "the module does not return one tensor",
                where=type(self.module).__qualname__,
                found=describe(answer),
                expected="a tensor (N, K) of scores or (N,) of labels",
                hint="wrap it in a module whose forward returns the logits only",
            )
        if answer.is_floating_point() and answer.dtype != torch.float32:
            self._note(f"answers are {_name(answer.dtype)}; converted to float32")
        return _as_answer(answer)

    def fingerprint(self) -> Mapping[str, str]:
        """Digest of the weights, the architecture, the source of its classes, and the version of torch."""
        return dict(self._fingerprint)

    def state_digest(self) -> str:
        """SHA-256 of all parameters and buffers and of which parts are in train mode."""
        modes = ",".join(name or "(all)" for name, part in self.module.named_modules() if part.training)
        return hashlib.sha256(f"{digests.of_module_state(self.module)} {modes}".encode()).hexdigest()

    def forwards(self) -> Mapping[str, Callable[[], Forward]]:
        """ONNX Runtime on the module's export, and the module with its memory in channels-last order."""
        return {"onnxruntime": self._onnxruntime, "torch channels-last": self._channels_last}

    def differentiable(self) -> Mapping[str, Callable[[], Forward]]:
        """The module with its memory in channels-last order."""
        return {"torch channels-last": self._channels_last}

    def graph(self) -> Graph | None:
        """The module's trace; None where it answers with labels or does not know the shape of its images."""
        from charpy.bounds.from_torch import graph_of_module

        shape = self.input_shape or self._seen_shape
        if shape is None or self.output is Output.LABELS:
            return None
        return graph_of_module(self.module, shape).to(torch.zeros((), device=self.device))

    def export(self, path: Path) -> Mapping[str, object]:
        """Write the module as ONNX, checked against its own answers; returns exporter, opset and differences."""
        from charpy_plugins.wrappers.onnx_export import export_onnx

        if self.input_shape is None:
            raise ModelError(
                "the input shape is not known",
                where=type(self.module).__qualname__,
                hint="give `input_shape` where the model is described",
            )
        written = export_onnx(self.converted(), self.input_shape, path)
        return {name: value for name, value in vars(written).items() if name != "path"}

    def _adopt(
        self,
        module: torch.nn.Module,
        *,
        output: Output,
        input_shape: tuple[int, int, int] | None,
        num_classes: int | None,
        device: torch.device,
        fingerprint: Mapping[str, str] | None,
    ) -> None:
        """Take `module`, which nobody else holds, as the one that answers."""
        self.module = module.to(device).eval().requires_grad_(False)
        self.output = output
        self.access = Access.LABELS if output is Output.LABELS else Access.GRADIENTS
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.notes: list[str] = []
        self._device = device
        self._seen_shape = input_shape
        self._mutates: bool | None = None
        kinds = {value.dtype for value in module.parameters() if value.is_floating_point()}
        self._dtype = kinds.pop() if len(kinds) == 1 else torch.float32
        if self._dtype != torch.float32:
            self._note(f"the module computes in {_name(self._dtype)}; images are converted to it")
        identity = {"weights": digests.of_module_state(module)} if fingerprint is None else dict(fingerprint)
        identity.setdefault("architecture", f"{type(module).__module__}.{type(module).__qualname__}")
        self._fingerprint = {**identity, "source": digests.of_module_source(module), "torch": torch.__version__}

    def _forward(self, images: torch.Tensor) -> Any:
        """The module's answer; a module that changes its input in place gets copies, from the first call on."""
        given = images.to(self._device, self._dtype)
        if given is images and self._mutates is not False:
            given = images.clone()
        if self._mutates is not None or given.is_inference():
            return self.module(given)
        version = given._version
        answer = self.module(given)
        self._mutates = given._version != version
        if self._mutates:
            self._note("the module changes its input in place; it is given copies")
        return answer

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _onnxruntime(self) -> Forward:
        from charpy_plugins.wrappers.onnx_export import forward_through_onnx

        if self._seen_shape is None:
            raise ModelError("the input shape is not known yet", expected="input_shape, or one call of predict before")
        return forward_through_onnx(self.converted(), self._seen_shape, self._device)

    def _channels_last(self) -> Forward:
        module = self.converted()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def forward(images: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = module(images.clone(memory_format=torch.channels_last))
            return answer

        return forward

    def converted(self) -> torch.nn.Module:
        """A copy of the module with `predict`'s conversions around it: float32 in, float32 (or int64) out."""
        return _Converted(copy.deepcopy(self.module), self._dtype).eval()


class _Converted(torch.nn.Module):
    """float32 images in, float32 scores or int64 labels out, whatever the module inside computes in."""

    def __init__(self, inner: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`predict` without its checks."""
        return _as_answer(self.inner(images if self.dtype == torch.float32 else images.to(self.dtype)))


def _as_answer(answer: torch.Tensor) -> torch.Tensor:
    if answer.is_complex():
        return answer  # it is refused as it is
    return answer.float() if answer.is_floating_point() else answer.long()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _device_of(module: torch.nn.Module) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
