"""A small convolutional network for 8x8 images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class DigitsCNN(nn.Module):
    """Two 3x3 convolutions, one pooling, one hidden layer: 38,282 parameters for 1x8x8 images and 10 classes.

    Ours; small enough that what surrounds the model is what a benchmark on it measures.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        image_size: H and W, even.
        widths: channels of the two convolutions.
        hidden: units of the hidden layer.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 8,
        widths: tuple[int, int] = (16, 32),
        hidden: int = 64,
        mean: Sequence[float] = (0.3,),
        std: Sequence[float] = (0.375,),
    ) -> None:
        super().__init__()
        first, second = widths
        self.normalise = Normalise(in_channels, mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(second * (image_size // 2) ** 2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, image_size, image_size)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
