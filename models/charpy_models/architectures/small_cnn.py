"""A plain convolutional network of LeNet's kind for small colour images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class SmallCNN(nn.Module):
    """One 3x3 convolution and one pooling per width, one hidden layer: 272,810 parameters for 3x32x32, 10 classes.

    Ours; without batch normalisation or skips, so that it stands for the classifiers that small devices run.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        image_size: H and W; a multiple of 2 to the number of widths, or the remainder is cut by the pooling.
        widths: channels of the convolutions, each followed by a pooling that halves H and W.
        hidden: units of the hidden layer.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        image_size: int = 32,
        widths: Sequence[int] = (32, 64, 96),
        hidden: int = 128,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        self.normalise = Normalise(in_channels, mean, std)
        blocks: list[nn.Module] = []
        for before, width in zip((in_channels, *widths[:-1]), widths, strict=True):
            blocks += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks)
        side = image_size // 2 ** len(widths)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * side**2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, image_size, image_size)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
