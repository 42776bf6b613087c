"""C4, the classifier of "Smooth adversarial examples" (Zhang, Avrithis, Furon, Amsaleg 2019, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise


class C4(nn.Module):
    """Three convolutions, of 64, 128 and 128 features, and one layer: 710,218 parameters for 1x28x28, 10 classes.

    Kernels 8, 6 and 5, strides 2, 2 and 1. The paper says neither padding nor activation: here ReLU, and the padding
    of the first convolution that halves H and W, which leaves one place of a 28x28 image to the last.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        image_size: H and W, even; at least 28.
        widths: features of the convolutions.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        widths: tuple[int, int, int] = (64, 128, 128),
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.normalise = Normalise(in_channels, mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(first, second, 6, stride=2),
            nn.ReLU(),
            nn.Conv2d(second, third, 5),
            nn.ReLU(),
        )
        side = (image_size // 2 - 6) // 2 + 1 - 4
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(third * side**2, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, num_classes)` of `images` `(N, in_channels, image_size, image_size)` in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return logits
