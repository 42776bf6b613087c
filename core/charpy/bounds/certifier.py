"""What certifiers that bound a network share: the graph, the margins of a label, the time and the slack."""

from __future__ import annotations

import copy
import time

import torch

from charpy.bounds.graph import Graph
from charpy.bounds.networks import graph_of, why_not
from charpy.errors import DataError
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.threat import ThreatModel


class NetworkCertifier(Certifier):
    """Proves from the network's graph: each sample by `proves`, or all of a call at once by a `proven` of its own."""

    arithmetic = Arithmetic.REAL

    class Params(BaseParams):
        """Parameters of a proof."""

        seconds: float = param(
            10.0, ge=0, description="nothing is begun later, for one sample at one level", unit="s", source="ours"
        )
        float64: bool = param(False, description="compute bounds in double precision", source="ours")
        slack: float = param(
            1e-4,
            ge=0,
            description="what a bound must leave for rounding, times the image's own largest margin if that is above 1",
            unit="logits",
            source="ours",
        )

    def proves(self, margins: Graph, image: torch.Tensor, threat: ThreatModel, deadline: float) -> bool:
        """Whether all margins stay above the slack for every image of the threat around `image` `(1, C, H, W)`.

        `margins` is the network whose answers are the label's score minus each other one; `deadline` is a time of
        `time.monotonic`.
        """
        raise NotImplementedError

    def proven(self, graph: Graph, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`: one sample after the other; `graph` ends in the scores."""
        margins = {label: graph.margins(label).to(images) for label in set(labels.tolist())}
        proven = []
        for image, label in zip(images, labels.tolist(), strict=True):
            deadline = time.monotonic() + self.params.seconds
            proven.append(self.proves(margins[label], image[None], threat, deadline))
        return torch.tensor(proven, dtype=torch.bool, device=images.device)

    def slack(self, margins: torch.Tensor) -> torch.Tensor:
        """`(N,)`: what the bounds of each sample must leave, of its image's margins `(N, K - 1)`: rounding grows with
        the scores."""
        slack: torch.Tensor = self.params.slack * margins.abs().amax(1).clamp_min(1)
        return slack

    def supports(self, model: Model, threat: ThreatModel) -> str:
        """Models whose network can be traced; any goal, as what is proven is more than a targeted one asks."""
        return why_not(model)

    @torch.no_grad()
    def certify(self, model: Model, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`; see the class.

        Raises:
            DataError: a label is no class of the model.
        """
        graph = graph_of(model)
        if not len(images):
            return torch.zeros(0, dtype=torch.bool)
        if not bool(((labels >= 0) & (labels < graph.num_classes)).all()):
            raise DataError(
                "a label is no class of the model", found=labels.tolist(), expected=f"0..{graph.num_classes - 1}"
            )
        if self.params.float64:
            images = images.double()
            graph = copy.deepcopy(graph).to(images)
        return self.proven(graph, images, labels, threat).cpu()
