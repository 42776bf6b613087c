"""The first layer of every architecture: normalisation lives inside the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from charpy.errors import SpecError


class Normalise(nn.Module):
    """`(images - mean) / std` per channel; a scalar for every channel is given as a sequence of length 1.

    `mean` and `std` are buffers, so that they are stored with the weights and a weight file says how it wants its
    images. They are not trained.

    Raises:
        SpecError: a length is neither 1 nor `channels`, or a `std` is not positive.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in {1, channels}:
                raise SpecError(
                    f"{name} does not fit the channels",
                    where="normalisation",
                    found=f"{len(values)} values",
                    expected=f"1 or {channels}",
                )
        if min(std) <= 0:
            raise SpecError("std must be positive", where="normalisation", found=list(std))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).expand(channels).reshape(-1, 1, 1).clone())
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).expand(channels).reshape(-1, 1, 1).clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised `images`, `(N, C, H, W)`."""
        return (images - self.mean) / self.std
