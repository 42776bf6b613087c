"""What a network is trained on, and how."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from charpy.errors import CharpyError, SpecError
from charpy.specs import ComponentSpec, Spec
from charpy_models.gan import Gan
from charpy_plugins.wrappers.references import load_reference

if TYPE_CHECKING:
    from torch import nn


class Precision(StrEnum):
    """What a network computes in while it is trained; its weights and the optimiser are float32 in any case."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Augmentation(Spec):
    """Random changes of the training images, drawn anew for every image and epoch."""

    flip: bool = Field(default=False, description="mirror left to right with probability 1/2")
    shift: int = Field(default=0, ge=0, description="move by up to this many pixels each way; black comes in")


class Recipe(Spec):
    """One network trained on the `train` split of one dataset with AdamW.

    Sources: Loshchilov & Hutter 2019 (AdamW), 2017 (cosine); Smith & Topin 2019 (one-cycle).
    """

    architecture: str = Field(description="package.module:Class of the network")
    architecture_params: dict[str, Any] = Field(default_factory=dict, description="keywords of the network")
    data: str = Field(description="dataset kind; it has the splits `train` and `test`")
    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(ge=1, description="images in one step")
    learning_rate: float = Field(gt=0, description="peak of the schedule")
    schedule: Literal["one-cycle", "cosine", "constant"] = Field(
        default="one-cycle", description="what follows the warm-up: a fall to next to nothing, to 0, or the peak"
    )
    warm_up: float = Field(default=0.25, gt=0, lt=1, description="share of the steps before the peak")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's, decoupled from the gradient")
    augmentation: Augmentation = Augmentation()
    defenses: tuple[ComponentSpec, ...] = Field(
        default=(),
        description="ways to train, in order: kind and params; of a defence that changes the image, such as tvm, its"
        " changed images are trained on, of a defence by vote what a vote sees. The network is built for the shape"
        " that they leave",
    )
    gan: Gan | None = Field(
        default=None, description="for a network that generates images: how generator and critic are trained"
    )

    @model_validator(mode="after")
    def _no_defended_generator(self) -> Recipe:
        if self.gan is not None and self.defenses:
            raise ValueError("`defenses` are for classifiers: a generator (`gan`) cannot be trained with them")
        return self

    def build(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator.

        Raises:
            ModelError: there is no such architecture.
            SpecError: it does not take the keywords of the recipe, or is no network.
        """
        from torch import nn

        make = load_reference(self.architecture)
        try:
            network = make(**self.architecture_params)
        except CharpyError:
            raise
        except Exception as cause:
            raise SpecError(
                "the network cannot be built",
                where=self.architecture,
                found=f"{self.architecture_params}: {type(cause).__name__}: {cause}",
                expected=f"architecture_params that fit {_signature(make)}",
            ) from cause
        if not isinstance(network, nn.Module):
            raise SpecError("this is no network", where=self.architecture, found=type(network), expected="an nn.Module")
        return network


def _signature(make: Any) -> str:
    try:
        return str(inspect.signature(make))
    except (ValueError, TypeError):
        return "it"
