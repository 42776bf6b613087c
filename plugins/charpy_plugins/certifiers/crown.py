"""Proofs under Linf, L2 and L1: linear bounds propagated back through the network (CROWN), with better slopes."""

from __future__ import annotations

import time

import torch

from charpy.bounds.certifier import NetworkCertifier
from charpy.bounds.graph import Graph
from charpy.bounds.inner import known_bounds, lines_of
from charpy.bounds.regions import region_of
from charpy.bounds.slopes import best_lower_bounds
from charpy.interfaces.component import param
from charpy.threat import Norm, ThreatModel

EFFORTS = (0, 5, 15)
"""Steps of the search for the slopes of inner bounds, one round after the other; each takes several times longer."""

HOPELESS = 0.5
"""A round that leaves more than this share of what was missing is the last; so is a first one that misses by more than
the margin that the image itself has."""


class Crown(NetworkCertifier):
    """Bounds every margin from below over the whole ball; proven where all bounds are above 0.

    Three rounds, each only if the one before it left the sample undecided: bounds with the usual slopes and the last
    layer's slopes optimised; then those of the inner layers, too, in few steps and in more. No round begins after the
    time is up, and in one that is running the values whose turn would come later keep the bounds that they have. A
    round that has not halved what is missing is the last.

    Source: Zhang et al. 2018, Efficient neural network robustness certification with general activation functions
    (CROWN, NeurIPS); Xu et al. 2021, Fast and complete (alpha-CROWN, ICLR).
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})

    class Params(NetworkCertifier.Params):
        """Parameters of the proof."""

        steps: int = param(20, ge=0, description="of the search for the last layer's slopes", source="ours")

    def proven(self, graph: Graph, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """Round after round, all samples that are still open at once."""
        deadline = time.monotonic() + self.params.seconds * len(images)
        rows, last = graph.margin_rows(labels).to(images), len(graph.nodes) - 1
        margins = torch.einsum("nsk,nk->ns", rows, graph(images))
        before, slack = -margins.amin(1) / HOPELESS, self.slack(margins)
        proven = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        open_ = torch.arange(len(images), device=images.device)
        for effort in EFFORTS:
            region = region_of(images[open_], threat)
            known = known_bounds(graph, region, effort, deadline)
            lines = lines_of(graph, known)
            bounds = best_lower_bounds(graph, last, rows[open_], known, lines, region, self.params.steps)
            least = bounds.amin(1) - slack[open_]
            proven[open_] = least > 0
            near = (least <= 0) & (least >= HOPELESS * before[open_])
            before[open_] = least
            open_ = open_[near]
            if not len(open_) or time.monotonic() > deadline:
                break
        return proven
