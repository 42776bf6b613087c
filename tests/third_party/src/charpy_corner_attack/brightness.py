"""A model with a known decision boundary: dark below a mean of one half, bright above."""

from collections.abc import Mapping

import torch

from charpy.interfaces.model import Model
from charpy.threat import Access


class Brightness(Model):
    """Says `dark` (0) or `bright` (1) by the mean of an image."""

    access = Access.GRADIENTS
    num_classes = 2

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, 2)`: 0, and 20 times the mean's distance from one half."""
        bright = 20 * (images.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([torch.zeros_like(bright), bright], dim=1)

    def fingerprint(self) -> Mapping[str, str]:
        """It has no weights."""
        return {"brightness": "1"}
