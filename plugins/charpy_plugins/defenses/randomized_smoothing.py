"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019): the vote of a model over Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.random import Random
from charpy.voting import VotingDefense, VotingModel, VotingParams


class RandomizedSmoothing(VotingDefense):
    """Answers with the share of votes of the model over copies of the image with Gaussian noise.

    The smoothed classifier is argmax_c P(f(x + e) = c) with e ~ N(0, sigma^2 I) (section 3.1); here the share of
    `draws` fixed draws stands for P. The certifier `randomized_smoothing` says in which L2 ball the smoothed classifier
    cannot change its answer.

    Differs from the paper: noisy values are clipped to [0, 1], which is what a model here may be asked; the proof holds
    as well, with the clipping as a part of f. `clip: false` is for a model that was trained on noise without it.
    """

    class Params(VotingParams):
        """The noise and the number of draws."""

        sigma: float = param(
            0.25,
            gt=0,
            allow_inf_nan=False,
            description="standard deviation of the noise",
            unit="image values",
            source="Cohen et al. 2019, their second smallest for CIFAR-10",
        )
        clip: bool = param(True, description="noisy values are clipped to [0, 1]", source="ours")

    def wrap(self, model: Model) -> Smoothed:
        """The smoothed model: scores from any model, gradients from one that gives them."""
        return Smoothed(model, self.params)


class Smoothed(VotingModel):
    """Votes over Gaussian noise."""

    def __init__(self, base: Model, params: RandomizedSmoothing.Params) -> None:
        super().__init__(base, params)
        self.sigma, self.clip = params.sigma, params.clip

    def draw(
        self, random: Random, rows: torch.Tensor, draws: torch.Tensor, shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """Noise `(B, C, H, W)` with standard deviation sigma."""
        return gaussian(random, rows, draws, shape).mul_(self.sigma)

    def apply(self, images: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """Noisy images."""
        noisy = images + changes
        return noisy.clamp(0, 1) if self.clip else noisy

    def settings(self) -> Mapping[str, Any]:
        """The noise."""
        return {"sigma": self.sigma, "clip": self.clip}


def gaussian(random: Random, rows: torch.Tensor, draws: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """float32 `(B, *shape)`, standard normal by Box & Muller (1958), |z| < 6.8.

    Not `Random.normal`: its table ends at 4.33, which one value in 66,000 exceeds, and the proof is about a normal law.
    """
    size = math.prod(shape)
    words = random.words(rows, draws, 2 * ((size + 1) // 2))
    first, second = words.chunk(2, dim=1)
    uniform = first.to(torch.int64).bitwise_and_(0xFFFFFFFF).to(torch.float32).add_(0.5).mul_(2.0**-32)
    length = uniform.log_().mul_(-2).sqrt_()
    angle = second.to(torch.float32).mul_(2 * math.pi * 2.0**-32)
    return torch.cat([length * angle.cos(), length * angle.sin()], 1)[:, :size].reshape(len(rows), *shape)
