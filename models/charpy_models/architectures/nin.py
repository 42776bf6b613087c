"""Network in network (Lin, Chen, Yan 2013, "Network in network")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise
from charpy_models.architectures.start import he_normal


class NIN(nn.Module):
    """Three blocks of a convolution and two 1x1 ones: 966,986 parameters for 3x32x32 images and 10 classes.

    A 1x1 convolution is a small network that slides over the maps (equation 2). The last block has a map for each
    class, and its mean is the class's score (section 3.2), so that images of any size will do. The sizes by default are
    the authors' for CIFAR-10.

    Differs from the paper: no ReLU on the maps of the classes, so that a score may be negative; He's first weights.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        widths: channels of the three convolutions of each of the first two blocks, and of the first two of the third.
        dropout: share of each pooled map that training leaves out.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        widths: Sequence[Sequence[int]] = ((192, 160, 96), (192, 192, 192), (192, 192)),
        dropout: float = 0.5,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        one, two, three = widths
        self.normalise = Normalise(in_channels, mean, std)
        self.features = nn.Sequential(
            *_block(in_channels, one, kernel=5),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(dropout),
            *_block(one[-1], two, kernel=5),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(dropout),
            *_block(two[-1], three, kernel=3),
        )
        self.classifier = nn.Sequential(nn.Conv2d(three[-1], num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, H, W)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits


def _block(before: int, widths: Sequence[int], *, kernel: int) -> list[nn.Module]:
    """One convolution of `kernel`, and 1x1 convolutions after it."""
    layers: list[nn.Module] = []
    for place, width in enumerate(widths):
        size = kernel if place == 0 else 1
        layers += [nn.Conv2d(before, width, size, padding=size // 2), nn.ReLU()]
        before = width
    return layers
