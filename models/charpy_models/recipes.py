"""The training recipes of the zoo: what is trained on what, and how. One recipe per zoo kind."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import Field

from charpy.errors import unknown_name
from charpy.specs import Spec

if TYPE_CHECKING:
    from torch import nn


class Augmentation(Spec):
    """Random changes of the training images, drawn anew for every image and epoch."""

    flip: bool = Field(default=False, description="mirror left to right with probability 1/2")
    shift: int = Field(default=0, ge=0, description="move by up to this many pixels each way; black comes in")


class Recipe(Spec):
    """One network trained on the `train` split of one dataset with AdamW and a one-cycle learning rate.

    Sources: Loshchilov & Hutter 2019 (AdamW); Smith & Topin 2019 (one-cycle).
    """

    architecture: str = Field(description="package.module:Class of the network")
    architecture_params: dict[str, Any] = Field(default_factory=dict, description="keywords of the network")
    data: str = Field(description="dataset kind; it has the splits `train` and `test`")
    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(ge=1, description="images in one step")
    learning_rate: float = Field(gt=0, description="peak of the one-cycle schedule")
    warm_up: float = Field(default=0.25, gt=0, lt=1, description="share of the steps before the peak")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's, decoupled from the gradient")
    augmentation: Augmentation = Augmentation()

    def build(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator."""
        module, _, name = self.architecture.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), name)(**self.architecture_params)
        return network


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "digits-cnn": Recipe(
            architecture="charpy_models.architectures.digits_cnn:DigitsCNN",
            data="digits",
            epochs=80,
            batch_size=64,
            learning_rate=5e-3,
            weight_decay=0.05,
            augmentation=Augmentation(shift=1),
        ),
        "mnist-lenet": Recipe(
            architecture="charpy_models.architectures.lenet:LeNet",
            data="mnist",
            epochs=12,
            batch_size=128,
            learning_rate=5e-3,
            augmentation=Augmentation(shift=2),
        ),
        "cifar10-cnn": Recipe(
            architecture="charpy_models.architectures.small_cnn:SmallCNN",
            data="cifar10",
            epochs=16,
            batch_size=128,
            learning_rate=4e-3,
            weight_decay=0.05,
            augmentation=Augmentation(flip=True, shift=4),
        ),
    }
)


def recipe_for(kind: str) -> Recipe:
    """The recipe of a zoo kind.

    Raises:
        UnknownNameError: there is none; the nearest kinds are listed.
    """
    if kind not in RECIPES:
        raise unknown_name("recipe", kind, RECIPES)
    return RECIPES[kind]
