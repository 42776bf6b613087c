"""The model contract: images in, scores or labels out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from charpy.errors import ModelError
from charpy.interfaces.component import Component
from charpy.threat import Access

if TYPE_CHECKING:
    import torch

    from charpy.bounds.graph import Graph

    Forward = Callable[[torch.Tensor], torch.Tensor]


class Output(StrEnum):
    """What `predict` returns: `(N, K)` logits, `(N, K)` probabilities, or `(N,)` labels."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LABELS = "labels"


class Model(Component, ABC):
    """An image classifier.

    Attributes:
        access: the most it can give. LABELS for `Output.LABELS`; SCORES; GRADIENTS if `predict` is differentiable.
        output: what `predict` returns.
        input_shape: `(C, H, W)` of one image, or None when any shape is accepted.
        num_classes: K, or None when it is only known from the first answer.
        device: where `predict` wants its images.
    """

    access: Access
    output: Output = Output.LOGITS
    input_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None

    @property
    def device(self) -> torch.device:
        """Where `predict` wants its images (the CPU unless a wrapper says otherwise)."""
        import torch

        return torch.device("cpu")

    @abstractmethod
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` or labels `(N,)` of `images`, float32 `(N, C, H, W)` in [0, 1].

        Normalisation lives inside the model. The model never changes `images`, global state or its own weights.
        """

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """What makes this model this model, as name -> digest or value: file hashes, architecture, versions."""

    def state_digest(self) -> str:
        """A digest of the state that `predict` could change (buffers, running statistics); '' when there is none."""
        return ""

    def forwards(self) -> Mapping[str, Callable[[], Forward]]:
        """Other forward-only ways to compute `predict`, as name -> builder, most promising first.

        The query engine builds them, compares them with `predict` on a probe batch and uses the fastest that agrees.
        A builder that cannot work here raises; the engine then goes on without it and records the reason.
        """
        return {}

    def differentiable(self) -> Mapping[str, Callable[[], Forward]]:
        """Other differentiable ways to compute `predict`, as name -> builder; as `forwards`, for gradients."""
        return {}

    def graph(self) -> Graph | None:
        """The network as a graph that bounds can be propagated through, ending in logits; None where it shows none.

        Raises:
            UnsupportedError: there is a network, but an operator of it is not supported; it is named.
        """
        return None

    def export(self, path: Path) -> Mapping[str, object]:
        """Write the model as an ONNX file to `path`; returns what is worth telling about it (opset, differences).

        Raises:
            ModelError: this kind of model cannot be written as ONNX.
        """
        raise ModelError(
            "this kind of model cannot be exported to ONNX",
            where=type(self).__name__,
            hint="export works for models whose `predict` is a torch module",
        )

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """The parameters with which this component opens a command-line reference, or None if it is not for it."""
        return None

    @classmethod
    def wrap(cls, subject: object) -> Self | None:
        """This component around a Python object (a torch module, a callable), or None if it is not for it."""
        return None
