"""The distance of two images as a network sees them: learned similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from charpy.embedding import Embedding as Network
from charpy.embedding import EmbeddingParams
from charpy.interfaces.metric import Metric
from charpy.plugins import registry
from charpy_plugins.metrics.lp import check_pair


class Embedding(Metric):
    """L2 distance of the embeddings of two images: |e(x') - e(x)|, e a layer of a network.

    In the embedding of a triplet network, the default, images of a class are close and those of two classes are not
    (Hoffer & Ailon 2015; Schroff et al. 2015), and no two are further apart than 2. Symmetric, with the triangle
    inequality; 0 also between images that the network does not tell apart. A network that can be fooled measures
    wrongly what fools it.
    """

    unit = "1"

    Params = EmbeddingParams

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._network = Network(self.params.model, self.params.layer, registry())

    def fingerprint(self) -> Mapping[str, str]:
        """The network's."""
        return self._network.fingerprint()

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable; where the embeddings are equal the subgradient is 0.

        Raises:
            DataError: not a pair of images, or not of the shape that the network takes.
        """
        check_pair(images, perturbed)
        return self._network.distance(images, perturbed)
