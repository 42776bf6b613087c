"""Residual networks for small images (He, Zhang, Ren, Sun 2016, "Deep residual learning", section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a skip; a 1x1 projection where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.skip = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
        self.activation = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps `(N, width, H / stride, W / stride)` of `maps` `(N, before, H, W)`."""
        out: torch.Tensor = self.activation(self.residual(maps) + self.skip(maps))
        return out


class ResNet(nn.Module):
    """One stage of basic blocks per width, each stage after the first halving H and W; `2 * blocks * stages + 2` deep.

    ResNet-20, with three blocks a stage, has 272,474 parameters for 3x32x32 images and 10 classes (the paper: 0.27M),
    ResNet-8, with one, has 78,042. The last maps are averaged, so that images of any size will do.

    Differs from the paper: the skip where the shape changes is a 1x1 projection with batch normalisation (their option
    B, which they use on ImageNet).

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        blocks: in each stage; the paper's n.
        widths: channels of the stages; the first convolution has as many as the first stage.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        blocks: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        self.normalise = Normalise(in_channels, mean, std)
        before = widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, before, 3, padding=1, bias=False),
            nn.BatchNorm2d(before),
            nn.ReLU(),
        ]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(BasicBlock(before, width, stride=2 if stage > 0 and block == 0 else 1))
                before = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(before, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, H, W)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
