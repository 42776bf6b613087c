"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", II-B)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class LeNet(nn.Module):
    """Two 5x5 convolutions with pooling, two hidden layers: 61,706 parameters for 1x28x28 images and 10 classes.

    Differs from the paper, as most LeNets today do: ReLU for tanh, max pooling for trainable subsampling, a full
    connection table between the convolutions, and a linear output layer for the RBF units. The paper's 32x32 frame
    around a 28x28 digit is the padding of the first convolution.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        image_size: H and W.
        padding: of the first convolution; 2 for 28x28 images, 0 gives the paper's sizes for 32x32 ones.
        widths: channels of the two convolutions.
        hidden: units of the two hidden layers.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        padding: int = 2,
        widths: tuple[int, int] = (6, 16),
        hidden: tuple[int, int] = (120, 84),
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
    ) -> None:
        super().__init__()
        first, second = widths
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
        self.normalise = Normalise(in_channels, mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * side**2, hidden[0]),
            nn.ReLU(),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Linear(hidden[1], num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, image_size, image_size)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
