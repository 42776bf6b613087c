"""The defence contract: a transform around a model, a training procedure, or a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from charpy.interfaces.component import Component

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.dataset import Dataset
    from charpy.interfaces.model import Model


class GradientPath(StrEnum):
    """How a gradient passes a defence: exactly, by a surrogate backward pass, or averaged over draws."""

    EXACT = "exact"
    BPDA = "bpda"
    EOT = "eot"


class Defense(Component, ABC):
    """A defence that wraps a model; attacks face the wrapped model.

    Attributes:
        gradient: how a gradient passes it.
        randomised: whether it draws at random; its answers still depend on nothing but the image and its `seed`.
    """

    gradient: ClassVar[GradientPath] = GradientPath.EXACT
    randomised: ClassVar[bool] = False

    @abstractmethod
    def wrap(self, model: Model) -> Model:
        """The defended model; `model` itself stays as it is."""


class TrainingDefense(Component, ABC):
    """A defence that is a way to train."""

    @abstractmethod
    def train(self, architecture: torch.nn.Module, data: Dataset, **options: Any) -> torch.nn.Module:
        """A trained module."""


class Detector(Component, ABC):
    """A defence that says how suspicious an image is, and leaves the model's answers as they are.

    From which score on an image is refused is decided on clean images held out for that (`charpy.analysis.detection`).
    """

    @abstractmethod
    def flag(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N,)` suspicion scores of `images` `(N, C, H, W)` shown to `model`; larger is more suspicious.

        The score of an image depends on no other image.
        """
