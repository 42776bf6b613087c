"""The generator contract: latent vectors and classes in, images out, and a classifier of its own for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from charpy.interfaces.component import Component

if TYPE_CHECKING:
    import torch


class Generator(Component, ABC):
    """Makes images of a class from latent vectors, and says itself what an image shows (an AC-GAN's two sides).

    It is no model: nobody assesses it. Attacks search its latent space; `classify` is what keeps them to a class.

    Attributes:
        latent_size: L, numbers of a latent vector; they are drawn from a standard normal distribution.
        num_classes: K.
        image_shape: `(C, H, W)`.
    """

    latent_size: int
    num_classes: int
    image_shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device:
        """Where it computes (the CPU unless it says otherwise)."""
        import torch

        return torch.device("cpu")

    @abstractmethod
    def generate(self, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 `(N, C, H, W)` in [0, 1], differentiable in `latent` `(N, L)`, of the classes `labels`, int64 `(N,)`.

        An image depends on its own row alone.
        """

    @abstractmethod
    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` of `images`, float32 `(N, C, H, W)` in [0, 1], differentiable; the largest is the class."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """What makes this generator this generator, as name -> digest or value; part of the identity of a run."""

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """The parameters with which this component opens a reference, or None if it is not for it."""
        return None
