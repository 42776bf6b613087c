"""Randomised ablation (Levine & Feizi 2020): certified numbers of pixels of a model that votes on few pixels."""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from charpy.threat import Norm, ThreatModel
from charpy.vote_certifier import VoteCertifier
from charpy.voting import VotingModel
from charpy_plugins.defenses.randomized_ablation import Ablated


class RandomizedAblation(VoteCertifier):
    """Proves a model under the defence `randomized_ablation`, with probability 1 - alpha for each sample.

    Where the label's share of votes is at least p, no change of r pixels takes the majority if p - D > 1/2, with D the
    share of the votes that see one of them, 1 - C(d - r, k) / C(d, k) (theorem 1, with p_B = 1 - p_A).

    The proof is of the vote over all C(d, k) ablations, and takes the draws for independent and uniform.
    """

    norms = frozenset({Norm.L0})
    voting = Ablated
    defence = "randomized_ablation"

    def covered(
        self, model: VotingModel, images: torch.Tensor, bounds: torch.Tensor, threat: ThreatModel
    ) -> torch.Tensor:
        """bool `(N,)`: whether more than half of the votes are the label's and see no changed pixel."""
        needed = Fraction(1, 2) + seen(images[0, 0].numel(), model.settings()["keep"], threat.th)
        return torch.tensor([Fraction(bound) > needed for bound in bounds.tolist()], dtype=torch.bool)


def seen(pixels: int, keep: int, changed: int) -> Fraction:
    """The share of the ways to keep `keep` of `pixels` that keep at least one of `changed` given ones.

    1 - C(d - r, k) / C(d, k), as 1 - C(d - k, r) / C(d, r), whose numbers are small.
    """
    if changed >= pixels:
        return Fraction(1)
    return 1 - Fraction(math.comb(pixels - keep, changed), math.comb(pixels, changed))
