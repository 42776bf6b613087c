"""The embedding of an image in a network: what one of its layers makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import nn

from charpy.errors import DataError, ModelError, unknown_name
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.plugins import Registry
from charpy.specs import ModelSpec
from charpy.subjects import subject_of

EMBEDDING = "embedding"
"""Name of the part of a network that gives the embedding that it was trained for."""


class EmbeddingParams(BaseParams):
    """Which network, and where in it."""

    model: str = param(
        "mnist-embedding",
        min_length=1,
        description="the network: zoo name, FILE.safetensors of `charpy train`, FILE.safetensors@architecture",
        source="ours",
    )
    layer: str | None = param(
        None,
        description="name of the module whose output is the embedding; if not given, that of a triplet network, or the "
        "penultimate layer of a classifier",
        source="ours",
    )


class Embedding:
    """Images to embeddings, float32 `(N, D)`, by a layer of a model; differentiable, in eval mode.

    Args:
        reference: the model, as a run's spec would: a zoo name, FILE.safetensors, FILE.safetensors@architecture.
        layer: name of the module whose output, flattened, is the embedding. If not given: the part named `embedding`,
            which triplet networks have; else what the last linear layer is given, the penultimate layer.
        registry: where the model is found.
    """

    def __init__(self, reference: str, layer: str | None, registry: Registry) -> None:
        self.reference, self.layer = reference, layer
        self._subject = subject_of(ModelSpec(reference=reference), registry)
        self._caught: list[torch.Tensor] = []

    @cached_property
    def model(self) -> Model:
        """The model, a copy of our own, opened on first use.

        Raises:
            ModelError: it is no torch module, or the layer must be named.
            UnknownNameError: it has no such layer.
        """
        model = self._subject.open()
        network = getattr(model, "module", None)
        if not isinstance(network, nn.Module):
            raise ModelError(
                "embeddings are taken from the layers of a torch module",
                where=self.reference,
                found=type(model).__name__,
                expected="a ready-made model, or weights: FILE.safetensors, FILE.safetensors@architecture",
            )
        _watch(network, self.layer, self.reference, self._caught)
        return model

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings `(N, D)`, on the device of `images` `(N, C, H, W)` in [0, 1].

        Raises:
            DataError: images of another shape than the network takes.
            ModelError: the layer gives no row of numbers for each image.
        """
        model = self.model
        self.check(images)
        self._caught.clear()
        try:
            model.predict(images.to(model.device))
        except RuntimeError as cause:
            raise self._refused(images, str(cause).splitlines()[0][:200]) from cause
        found = self._caught.pop() if self._caught else None
        if not isinstance(found, torch.Tensor) or found.ndim < 2 or len(found) != len(images):
            raise ModelError(
                "the layer does not give one row of numbers for each image",
                where=f"{self.reference}, layer {self.layer or '(the default)'}",
                found=tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__,
                expected=f"({len(images)}, ...)",
                hint="name another `layer`",
            )
        return found.flatten(1).to(images.device)

    def distance(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """`(N,)` L2 distances of the embeddings of both; where they are equal the subgradient is 0."""
        gap: torch.Tensor = torch.linalg.vector_norm(self(others) - self(images), dim=1)
        return gap

    def check(self, images: torch.Tensor) -> None:
        """Refuse images of another shape than the network's, where it tells.

        Raises:
            DataError: another shape.
        """
        if self.model.input_shape not in (None, tuple(images.shape[1:])):
            raise self._refused(images, tuple(images.shape[1:]))

    def fingerprint(self) -> Mapping[str, str]:
        """What makes the network what it is."""
        return {f"embedding.{key}": value for key, value in self.model.fingerprint().items()}

    def _refused(self, images: torch.Tensor, found: object) -> DataError:
        shape = self.model.input_shape
        return DataError(
            "the network of the embedding does not take these images",
            where=self.reference,
            found=found,
            expected=f"(C, H, W) = {shape}" if shape else f"images that it takes, not {tuple(images.shape[1:])}",
            hint="give `model` a network for images of this shape; `charpy train` makes one",
        )


def _watch(network: nn.Module, layer: str | None, where: str, caught: list[torch.Tensor]) -> None:
    """From now on `caught` gets the embedding of every pass through `network`."""
    layers = {name: part for name, part in network.named_modules() if name}
    if layer is not None and layer not in layers:
        raise unknown_name("layer", layer, layers, where=where)
    if layer is None and EMBEDDING not in layers:
        linear = [part for part in layers.values() if isinstance(part, nn.Linear)]
        if not linear:
            raise ModelError(
                "the network has no linear layer, before which its embedding would be",
                where=where,
                expected="a `layer`: " + ", ".join(layers),
            )
        linear[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        return
    layers[layer or EMBEDDING].register_forward_hook(lambda _, given, found: caught.append(found))
