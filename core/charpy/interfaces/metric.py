"""The metric contract: how far a perturbed image is from its original."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from charpy.interfaces.component import Component

if TYPE_CHECKING:
    import torch


class Direction(StrEnum):
    """Whether a larger value means more alike or less alike."""

    DISTANCE = "distance"
    SIMILARITY = "similarity"


class Metric(Component, ABC):
    """A distance or similarity of image pairs.

    Attributes:
        unit: what one unit of the value is ("pixels", "features", "image values", "1").
        direction: distance or similarity.
        range: the smallest and largest possible value for images in [0, 1]; infinity when unbounded in the image size.
    """

    unit: str
    direction: Direction = Direction.DISTANCE
    range: tuple[float, float] = (0.0, float("inf"))

    def fingerprint(self) -> Mapping[str, str]:
        """What the metric takes from elsewhere (a network), as name -> digest or value: part of a run's identity."""
        return {}

    @abstractmethod
    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` values for `images` and `perturbed`, both float32 `(N, C, H, W)` in [0, 1]."""
