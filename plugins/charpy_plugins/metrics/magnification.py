"""How much of a change is seen under adversarial magnification (Zhang et al. 2019, appendix A)."""

from __future__ import annotations

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy.magnification import BETA, SIGMA_COLOUR, SIGMA_SPACE, magnified
from charpy_plugins.metrics.lp import check_pair


class Magnification(Metric):
    """Root mean square difference of the two magnified images: sqrt(mean (mag(x') - mag(x))^2), over all features.

    The paper magnifies and looks; the figure is ours. 0 between equals and for a change of brightness that is the same
    everywhere; a change on a smooth area counts more than the same change on a rough one.
    """

    unit = "local standard deviations"

    class Params(BaseParams):
        """Those of the magnification."""

        beta: float = param(
            BETA, ge=0, le=1, description="how much the local variation counts", source="Zhang et al. 2019, appendix A"
        )
        sigma_space: float = param(
            SIGMA_SPACE,
            gt=0,
            le=20,
            description="standard deviation of the weight of distance",
            unit="pixels",
            source="Zhang et al. 2019, appendix A",
        )
        sigma_colour: float = param(
            SIGMA_COLOUR,
            gt=0,
            le=100,
            description="standard deviation of the weight of a difference of colours",
            unit="image values",
            source="Zhang et al. 2019, appendix A: 5; of [0, 1]: ours",
        )

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable."""
        check_pair(images, perturbed)
        settings = self.params.model_dump()
        gap = (magnified(perturbed, **settings) - magnified(images, **settings)).flatten(1)
        distance: torch.Tensor = torch.linalg.vector_norm(gap, dim=1) / gap.shape[1] ** 0.5
        return distance
