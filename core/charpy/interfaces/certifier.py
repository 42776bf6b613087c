"""The certifier contract: a proof of robustness, sound or silent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from charpy.interfaces.component import Component
from charpy.threat import Norm, ThreatModel

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.model import Model


class Arithmetic(StrEnum):
    """Whether a proof holds for real numbers or for the floating-point program that runs."""

    REAL = "real"
    FLOAT_SOUND = "float-sound"


class Certifier(Component, ABC):
    """Proves that no image of a threat model changes the model's answer."""

    norms: ClassVar[frozenset[Norm]]
    arithmetic: ClassVar[Arithmetic]

    @abstractmethod
    def supports(self, model: Model, threat: ThreatModel) -> str:
        """'' if it can certify this model under this threat, otherwise the reason why not."""

    @abstractmethod
    def certify(self, model: Model, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`: True only where it is proven that no image inside `threat` is classified as another class."""
