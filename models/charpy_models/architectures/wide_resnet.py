"""Wide residual networks (Zagoruyko, Komodakis 2016, "Wide residual networks", table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy.errors import SpecError
from charpy_models.architectures.normalise import Normalise


class PreActivationBlock(nn.Module):
    """Batch normalisation, ReLU, 3x3 convolution, twice, around a skip (He et al. 2016, "Identity mappings").

    Where the shape changes, the skip is a 1x1 convolution of what the first ReLU gives.
    """

    def __init__(self, before: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.projection: nn.Conv2d | None = None
        if stride != 1 or before != width:
            self.projection = nn.Conv2d(before, width, 1, stride=stride, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps `(N, width, H / stride, W / stride)` of `maps` `(N, before, H, W)`."""
        active = self.activation(maps)
        out: torch.Tensor = self.residual(active) + (maps if self.projection is None else self.projection(active))
        return out


class WideResNet(nn.Module):
    """WRN-`depth`-`widen`: three stages of pre-activation blocks, widths 16, 32 and 64 times `widen`.

    WRN-28-10 has 36,479,194 parameters for 3x32x32 images and 10 classes (the paper: 36.5M). The last maps are
    averaged, so that images of any size will do.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        depth: 6 n + 4, with n blocks in each stage.
        widen: factor of the widths; the paper's k.
        base: channels of the first convolution, and of the first stage before it is widened.
        dropout: share of the maps that training leaves out between the two convolutions of a block.
        mean: per channel, or one for all, in image values.
        std: like `mean`.

    Raises:
        SpecError: `depth` is not 6 n + 4.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        depth: int = 28,
        widen: int = 10,
        base: int = 16,
        dropout: float = 0.0,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        blocks, left = divmod(depth - 4, 6)
        if left or blocks < 1:
            raise SpecError("no wide residual network has this depth", found=depth, expected="6 n + 4: 10, 16, 22, ...")
        self.normalise = Normalise(in_channels, mean, std)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, base, 3, padding=1, bias=False)]
        before = base
        for stage in range(3):
            width = base * 2**stage * widen
            for block in range(blocks):
                layers.append(PreActivationBlock(before, width, 2 if stage > 0 and block == 0 else 1, dropout))
                before = width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(before, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, H, W)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
