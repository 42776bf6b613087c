"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019): certified balls around images of a smoothed model."""

from __future__ import annotations

import math

import torch

from charpy.pixels import REAL_TOLERANCE
from charpy.threat import BALLS, Grid, Norm, ThreatModel
from charpy.vote_certifier import VoteCertifier
from charpy.voting import VotingModel
from charpy_plugins.defenses.randomized_smoothing import Smoothed


class RandomizedSmoothing(VoteCertifier):
    """Proves a model under the defence `randomized_smoothing`, with probability 1 - alpha for each sample.

    Where the label's share of votes is at least p > 1/2, no image nearer than R = sigma Phi^-1(p) in L2 changes the
    majority (theorem 1 with p_B = 1 - p_A). The other balls are proven by the L2 ball around them: Linf of radius r in
    r sqrt(d), L1 in r; k pixels in the length of the largest change that k pixels of this image allow.

    The proof is of the smoothed classifier over infinitely many draws, in real arithmetic, and takes the draws for
    independent and normal.
    """

    norms = frozenset(BALLS)
    voting = Smoothed
    defence = "randomized_smoothing"

    def covered(
        self, model: VotingModel, images: torch.Tensor, bounds: torch.Tensor, threat: ThreatModel
    ) -> torch.Tensor:
        """bool `(N,)`: whether the threat lies inside the certified L2 ball."""
        radius: torch.Tensor = model.settings()["sigma"] * torch.special.ndtri(bounds)
        return radius > farthest(images, threat)


def farthest(images: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
    """float64 `(N,)`: no image that `threat` allows is farther than this in L2; with what a judge forgives."""
    if threat.norm is Norm.L0:
        room = torch.maximum(images, 1 - images).to(torch.float64).square().sum(1).flatten(1)
        return room.topk(min(threat.th, room.shape[1]), dim=1).values.sum(1).sqrt()
    slack = REAL_TOLERANCE if threat.grid is Grid.NONE else 0.0
    stretch = math.sqrt(images[0].numel()) if threat.norm is Norm.LINF else 1.0
    return torch.full((len(images),), (threat.radius + slack) * stretch, dtype=torch.float64)
