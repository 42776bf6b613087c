"""All-CNN-C (Springenberg, Dosovitskiy, Brox, Riedmiller 2014, "Striving for simplicity", section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise
from charpy_models.architectures.start import he_normal


class AllConv(nn.Module):
    """Convolutions only, strides instead of pooling: 1,369,738 parameters for 3x32x32 images and 10 classes (table 1).

    Two stages of three 3x3 convolutions, the third of them with stride 2; then a 3x3 convolution without padding, two
    1x1 convolutions, and the mean over the maps. There are no other weights, so that images of any size will do.

    Differs from the paper: no ReLU after the last convolution, so that a score may be negative; He's first weights.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        widths: channels of the two stages; the last convolutions have as many as the second.
        dropout: shares of the image's values and of each stage's maps that training leaves out; the paper's by default.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        widths: tuple[int, int] = (96, 192),
        dropout: tuple[float, float] = (0.2, 0.5),
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        first, second = widths
        self.normalise = Normalise(in_channels, mean, std)
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        for before, width in ((in_channels, first), (first, second)):
            layers += [
                *_convolution(before, width),
                *_convolution(width, width),
                *_convolution(width, width, stride=2),
                nn.Dropout(dropout[1]),
            ]
        self.features = nn.Sequential(
            *layers, *_convolution(second, second, padding=0), *_convolution(second, second, kernel=1, padding=0)
        )
        self.classifier = nn.Sequential(nn.Conv2d(second, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, H, W)` in [0, 1]; H and W at least 9."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits


def _convolution(before: int, width: int, *, kernel: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, width, kernel, stride=stride, padding=padding), nn.ReLU()]
