"""A PyTorch module as a generator: its two methods, in eval mode, on a private copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.generator import Generator
from charpy.questioner import describe
from charpy_plugins.wrappers import digests
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.references import is_reference, load_reference, produced

NEEDED = ("latent_size", "num_classes", "image_shape", "generate", "classify")


class TorchGenerator(Generator):
    """A torch module with `generate(latent, labels)` and `classify(images)`, or a factory of one.

    The module has the attributes `latent_size`, `num_classes` and `image_shape` `(C, H, W)`.

    Attributes:
        module: the private copy that answers; its parameters need no gradient.
    """

    class Params(BaseParams):
        """Which module."""

        reference: str = param(min_length=1, description="package.module:object")
        factory: bool | None = param(
            None, description="whether it returns the module when called without arguments; found out if not given"
        )
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    module: Any

    def __init__(self, params: Params) -> None:
        """Import the module; its code runs."""
        super().__init__(params)
        found = produced(load_reference(params.reference), params.reference, params.factory)
        if not isinstance(found, torch.nn.Module):
            raise ModelError("this is no torch module", where=params.reference, found=type(found).__qualname__)
        self._adopt(copy.deepcopy(found), pick_device(params.device), params.reference)

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `package.module:object`."""
        return {"reference": reference} if cls is TorchGenerator and is_reference(reference) else None

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return self._device

    def generate(self, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The module's images, float32 `(N, C, H, W)`.

        Raises:
            ModelError: they have another shape than the module says, or leave [0, 1].
        """
        images = self.module.generate(latent.to(self._device), labels.to(self._device))
        expected = (len(latent), *self.image_shape)
        if not isinstance(images, torch.Tensor) or tuple(images.shape) != expected:
            raise ModelError(
                "the generator does not give one image for each latent vector",
                where=self._name,
                found=describe(images),
                expected=f"a tensor {expected}",
            )
        low, high = torch.aminmax(images.detach()) if images.numel() else (images.new_zeros(()), images.new_zeros(()))
        if not (bool(low >= 0) and bool(high <= 1)):
            raise ModelError(
                "the generator's images leave the box",
                where=self._name,
                found=f"values {float(low):.4g} to {float(high):.4g}",
                expected="0 to 1",
                hint="end the generator in a sigmoid, or in (tanh + 1) / 2",
            )
        return images.float()

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """The module's scores, float32 `(N, K)`.

        Raises:
            ModelError: they have another shape.
        """
        scores = self.module.classify(images.to(self._device))
        expected = (len(images), self.num_classes)
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != expected:
            raise ModelError(
                "the generator does not score every class of each image",
                where=self._name,
                found=describe(scores),
                expected=f"a tensor {expected}",
            )
        return scores.float()

    def fingerprint(self) -> Mapping[str, str]:
        """Digests of the weights and of the source of its classes, and the version of torch."""
        return dict(self._fingerprint)

    def _adopt(self, module: torch.nn.Module, device: torch.device, name: str, weights: str | None = None) -> None:
        """Take `module`, which nobody else holds; `weights` is their digest, if the caller knows it better."""
        if missing := [attribute for attribute in NEEDED if not hasattr(module, attribute)]:
            raise ModelError(
                "this module is no generator",
                where=name,
                found=f"{type(module).__qualname__} without {', '.join(missing)}",
                expected=f"a torch module with {', '.join(NEEDED)}",
                hint="see docs/plugins.md, `A generator of your own`",
            )
        self.module = module.to(device).eval().requires_grad_(False)
        self.latent_size, self.num_classes = int(self.module.latent_size), int(self.module.num_classes)
        channels, height, width = self.module.image_shape
        self.image_shape = (int(channels), int(height), int(width))
        self._device, self._name = device, name
        self._fingerprint = {
            "weights": weights or digests.of_module_state(module),
            "source": digests.of_module_source(module),
            "torch": str(torch.__version__),
        }
