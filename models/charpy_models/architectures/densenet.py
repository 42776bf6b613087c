"""DenseNet-BC (Huang, Liu, van der Maaten, Weinberger 2017, "Densely connected convolutional networks", section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class DenseLayer(nn.Module):
    """Adds `growth` maps to those it is given: BN, ReLU, 1x1 convolution to 4 `growth`, BN, ReLU, 3x3 convolution."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.addition = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps `(N, before + growth, H, W)`, the first of which are `maps` `(N, before, H, W)` (equation 2)."""
        return torch.cat([maps, self.addition(maps)], dim=1)


class DenseNet(nn.Module):
    """Dense blocks with bottlenecks, compressed in between: `2 * sum(layers) + blocks + 1` layers deep.

    DenseNet-BC (L = 100, k = 12), the default, has 769,162 parameters for 3x32x32 images and 10 classes (the paper:
    0.8M). Between the blocks, a 1x1 convolution keeps a share of the maps and 2x2 pooling halves H and W. The last maps
    are averaged, so that images of any size will do.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        growth: maps that a layer adds; the paper's k. The first convolution has twice as many.
        layers: of each dense block, each layer two convolutions.
        compression: share of the maps that is kept between two blocks; the paper's theta.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        growth: int = 12,
        layers: Sequence[int] = (16, 16, 16),
        compression: float = 0.5,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        self.normalise = Normalise(in_channels, mean, std)
        width = 2 * growth
        parts: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False)]
        for block, count in enumerate(layers):
            if block > 0:
                kept = int(compression * width)
                parts += [
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    nn.Conv2d(width, kept, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
                width = kept
            parts += [DenseLayer(width + place * growth, growth) for place in range(count)]
            width += count * growth
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, H, W)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
