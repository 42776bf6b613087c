"""Generators of images of a class, with weights that ship with the package or that `charpy train` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.generator import Generator
from charpy_models.card import Card
from charpy_models.plugin import weights_folder
from charpy_models.recipes import recipe_for
from charpy_models.trained import card_beside, open_trained
from charpy_models.zoo import read_weights
from charpy_plugins.generators.torch_module import TorchGenerator
from charpy_plugins.wrappers.devices import pick_device


class ZooGenerator(TorchGenerator):
    """A generator of this package with the weights that its recipe gave.

    Attributes:
        kind: its name in the zoo, in the recipes and of its weight file.
        card: what it was trained on, how, and what was measured of its images.
    """

    class Params(BaseParams):
        """Where it computes."""

        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    kind: ClassVar[str]

    def __init__(self, params: Any = None) -> None:
        Generator.__init__(self, params)
        self.card, state = read_weights(self.kind, weights_folder())
        with torch.random.fork_rng(devices=[]):  # fresh weights must not advance the caller's generator
            module = recipe_for(self.kind).build()
        module.load_state_dict(state, strict=True)
        self._adopt(module, pick_device(self.params.device), self.kind, self.card.sha256)

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """No parameters, for the kind's own name."""
        return {} if reference == getattr(cls, "kind", None) else None


class MnistACGAN(ZooGenerator):
    """An AC-GAN for the 28x28 digits of MNIST."""

    kind = "mnist-acgan"


class TrainedGenerator(TorchGenerator):
    """A generator trained with `charpy train`: FILE.safetensors with its card FILE.json beside it.

    As for trained models, a card builds only the architectures of this package.

    Attributes:
        card: what it was trained on, how, and what was measured of its images.
    """

    class Params(BaseParams):
        """Where it is."""

        weights: str = param(min_length=1, description="the .safetensors file; its card lies beside it", identity=False)
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    card: Card

    def __init__(self, params: Params) -> None:
        """Build the network of the card and fill in the weights.

        Raises:
            ModelError: no card, another file's card, an architecture of somebody else's, or no generator.
        """
        Generator.__init__(self, params)
        self.card, module = open_trained(Path(params.weights))
        if self.card.recipe.gan is None:
            raise ModelError("this is a classifier, not a generator", where=params.weights, found=self.card.kind)
        self._adopt(module, pick_device(params.device), params.weights, self.card.sha256)

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `FILE.safetensors` with a card beside it."""
        return {"weights": reference} if card_beside(reference) else None
