"""A network that `charpy train` has trained, opened by its weights and the card beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.specs import parse
from charpy_models.card import Card
from charpy_models.recipes import ARCHITECTURES
from charpy_plugins.wrappers.architectures import load_into
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.references import load_reference
from charpy_plugins.wrappers.torch_module import TorchModel
from charpy_plugins.wrappers.weights import load_weights

MOST_BYTES = 1 << 20
"""A larger file is no card."""


class TrainedModel(TorchModel):
    """A network trained with `charpy train`: FILE.safetensors with its card FILE.json beside it.

    A card may come from anyone and says what is built: only the architectures of this package are, never code that a
    card names.

    Attributes:
        card: what it was trained on, how, and its measured accuracy.
    """

    class Params(BaseParams):
        """Where it is."""

        weights: str = param(min_length=1, description="the .safetensors file; its card lies beside it", identity=False)
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    def __init__(self, params: Params) -> None:
        """Build the network of the card and fill in the weights.

        Raises:
            ModelError: no card, another file's card, or an architecture of somebody else's.
        """
        Model.__init__(self, params)
        self.card, module = open_trained(Path(params.weights))
        if self.card.recipe.gan is not None:
            raise ModelError(
                "this is a generator of images, not a classifier",
                where=params.weights,
                found=f"{self.card.kind}, trained by a recipe with `gan`",
                hint=f"give it to an attack that searches it: `acgan` with `generator: {params.weights}`",
            )
        self._adopt(
            module,
            output=Output.LOGITS,
            input_shape=self.card.input_shape,
            num_classes=self.card.num_classes,
            device=pick_device(params.device),
            fingerprint={"weights": self.card.sha256, "architecture": self.card.recipe.architecture},
        )

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `FILE.safetensors` with a card beside it."""
        return {"weights": reference} if card_beside(reference) else None


def card_beside(reference: str) -> bool:
    """Whether `reference` is a `FILE.safetensors` with a card beside it."""
    weights = Path(reference)
    return weights.suffix == ".safetensors" and os.path.isfile(_beside(weights))


def open_trained(weights: Path) -> tuple[Card, torch.nn.Module]:
    """The card beside `weights`, and the network that it says with these weights.

    Raises:
        ModelError: no card, another file's card, or an architecture of somebody else's.
    """
    card = _card_of(weights)
    recipe = card.recipe
    if not _ours(recipe.architecture):
        raise ModelError(
            "the card names an architecture that is not charpy's",
            where=str(_beside(weights)),
            found=recipe.architecture,
            expected=f"one of {ARCHITECTURES}",
            hint=f"if you trust it: {weights}@package.module:callable",
        )
    loaded = load_weights(weights)
    if loaded.sha256 != card.sha256:
        raise ModelError(
            "the card is of another weight file",
            where=str(_beside(weights)),
            found=f"SHA-256 {loaded.sha256}",
            expected=f"SHA-256 {card.sha256}",
            hint="train it again",
        )
    with torch.random.fork_rng(devices=[]):
        module = recipe.build()
    load_into(module, loaded.state, str(weights), recipe.architecture)
    return card, module


def _ours(architecture: str) -> bool:
    """Whether the name is that of a network class of this package, and not of something that its modules import."""
    if not architecture.startswith(f"{ARCHITECTURES}."):
        return False
    found = load_reference(architecture)
    own = isinstance(found, type) and issubclass(found, torch.nn.Module)
    return own and found.__module__.startswith(f"{ARCHITECTURES}.")


def _beside(weights: Path) -> Path:
    return weights.with_suffix(".json")


def _card_of(weights: Path) -> Card:
    path = _beside(weights)
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError("there is no card beside the weights", where=str(path), found=cause) from None
    if not isinstance(content, Mapping):
        raise ModelError("this is no card", where=str(path), found=type(content).__name__, expected="a mapping")
    return parse(Card, content, where=str(path))
