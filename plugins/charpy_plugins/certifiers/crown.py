"""Proofs under Linf, L2 and L1: linear bounds propagated back through the network (CROWN), with better slopes."""

from __future__ import annotations

import time

import torch

from charpy.bounds.graph import Graph
from charpy.bounds.inner import known_bounds, lines_of
from charpy.bounds.networks import graph_of, why_not
from charpy.bounds.regions import Ball, Box, Region
from charpy.bounds.slopes import best_lower_bounds
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.threat import Norm, ThreatModel

EFFORTS = (0, 5, 15)
"""Steps of the search for the slopes of inner bounds, one round after the other; each takes several times longer."""


class Crown(Certifier):
    """Bounds every margin from below over the whole ball; proven where all bounds are above 0.

    Three rounds, each only if the one before it left the sample undecided: bounds with the usual slopes and the last
    layer's slopes optimised; then those of the inner layers, too, in few steps and in more. A round that is begun is
    ended; none begins after the time is up. A bound that stays far below 0 in one round ends it.

    Source: Zhang et al. 2018, Efficient neural network robustness certification with general activation functions
    (CROWN, NeurIPS); Xu et al. 2021, Fast and complete (alpha-CROWN, ICLR).
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    arithmetic = Arithmetic.REAL

    class Params(BaseParams):
        """Parameters of the proof."""

        seconds: float = param(10.0, ge=0, description="no round begins later, for one sample at one level", unit="s")
        steps: int = param(20, ge=0, description="of the search for the last layer's slopes", source="ours")
        slack: float = param(
            1e-4, ge=0, description="margin that a bound must leave, for rounding", unit="logits", source="ours"
        )

    def supports(self, model: Model, threat: ThreatModel) -> str:
        """Models whose network can be traced; any goal, as what is proven is more than a targeted one asks."""
        return why_not(model)

    @torch.no_grad()
    def certify(self, model: Model, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`; see the class."""
        graph = graph_of(model)
        margins = {label: graph.margins(label) for label in set(labels.tolist())}
        proven = [
            self._proves(margins[label], _region(image[None], threat))
            for image, label in zip(images, labels.tolist(), strict=True)
        ]
        return torch.tensor(proven, dtype=torch.bool)

    def _proves(self, graph: Graph, region: Region) -> bool:
        deadline, count = time.monotonic() + self.params.seconds, graph.num_classes
        rows = torch.eye(count, dtype=region.hull()[0].dtype, device=region.hull()[0].device)[None]
        before = -torch.inf
        for effort in EFFORTS:
            known = known_bounds(graph, region, effort)
            lines = lines_of(graph, known)
            bounds = best_lower_bounds(graph, len(graph.nodes) - 1, rows, known, lines, region, self.params.steps)
            least = float(bounds.min()) - self.params.slack
            if least > 0:
                return True
            hopeless = least < 0.5 * before  # the last round did not halve what is missing
            if time.monotonic() > deadline or hopeless:
                return False
            before = least
        return False


def _region(image: torch.Tensor, threat: ThreatModel) -> Region:
    if threat.norm is Norm.LINF:
        return Box.around(image, threat.radius)
    return Ball(image, threat.radius, threat.norm)
