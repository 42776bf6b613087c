"""Proofs under Linf, L2 and L1 where one relaxation leaves a sample open: its activations are split (beta-CROWN)."""

from __future__ import annotations

import torch

from charpy.bounds.certifier import NetworkCertifier
from charpy.bounds.graph import Graph
from charpy.bounds.inner import known_bounds, lines_of
from charpy.bounds.regions import region_of
from charpy.bounds.slopes import best_lower_bounds
from charpy.bounds.splitting import Splitting
from charpy.interfaces.component import param
from charpy.threat import Norm, ThreatModel

HOPELESS = 2.0
"""A sample whose relaxation misses by more than so many times the margin that the image itself has is left alone."""


class BranchAndBound(NetworkCertifier):
    """Splits the ball by what its activations do until every part is proven, or the time is up.

    For the last few samples: it begins with bounds as `crown` computes them, and each part inherits those of the inner
    layers. ReLUs and windows of max pooling are split, other activations are not. A sample whose first bound is far
    below zero is left alone.

    Source: Wang et al. 2021, Beta-CROWN: efficient bound propagation with per-neuron split constraints for neural
    network robustness verification (NeurIPS).
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})

    class Params(NetworkCertifier.Params):
        """Parameters of the proof."""

        inner_steps: int = param(5, ge=0, description="of the search for the slopes of inner bounds", source="ours")
        first_steps: int = param(20, ge=0, description="of that for the last layer's slopes", source="ours")
        steps: int = param(4, ge=0, description="of the search for the slopes and multipliers of a part", source="ours")

    def proves(self, margins: Graph, image: torch.Tensor, threat: ThreatModel, deadline: float) -> bool:
        """The margins that the relaxation of the whole ball proves; then the others, part by part."""
        scores = margins(image)
        own, slack = float(scores.min()), float(self.slack(scores))
        if not own > slack:
            return False
        region, last = region_of(image, threat), len(margins.nodes) - 1
        rows = torch.eye(margins.num_classes, dtype=image.dtype, device=image.device)
        known = known_bounds(margins, region, self.params.inner_steps, deadline)
        lines = lines_of(margins, known)
        bounds = best_lower_bounds(margins, last, rows[None], known, lines, region, self.params.first_steps)[0]
        if float(bounds.min()) < -HOPELESS * own:
            return False
        splitting = Splitting(margins, region, known, slack, self.params.steps)
        return splitting.proves(rows[~(bounds > slack)], deadline)
