"""The certifier contract: a proof of robustness, sound or silent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


THE_MODEL = "the model"


class Certifier(Component, ABC):
    """Proves that no image of a threat model changes the model's answer."""

    norms: ClassVar[frozenset[Norm]]
    arithmetic: ClassVar[Arithmetic]
    of: ClassVar[str] = THE_MODEL
    """What the proofs are of, in words. A witness against the model contradicts only proofs of the model itself; a
    proof of what it stands for, such as the vote over infinitely many draws, is reported as such."""

    @abstractmethod
    def supports(self, model: Model, threat: ThreatModel) -> str:
        """'' if it can certify this model under this threat, otherwise the reason why not."""

    def detail(self) -> Mapping[str, object]:
        """What a reader of the proofs must know beside the parameters, such as that they are of a smoothed model."""
        return {}

    @abstractmethod
    def certify(self, model: Model, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`: True only where it is proven that no image inside `threat` is classified as another class."""
