"""Total variance minimisation (Guo, Rana, Cisse & van der Maaten 2018, section 4.2)."""

from __future__ import annotations

import torch

from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Draw, DrawParams, RandomTransformation
from charpy_plugins.filters.total_variation import Variation, least_variation


class Tvm(RandomTransformation):
    """Drops values at random and shows the model the simplest image that agrees with the others.

    argmin_z 1/2 |kept (z - x)|^2 + weight TV(z), each channel for itself (with the squared distance that the
    authors' program has). Gradients pass it as if it were not there, averaged over the draws.

    Differs from the paper: an answer is the mean over `draws` sets of dropped values, the same for every image; the
    solver is a primal-dual one, for a fixed number of steps.
    """

    gradient = GradientPath.BPDA

    class Params(DrawParams):
        """How much is dropped, and how simple the image is to be."""

        draws: int = param(
            5, ge=1, description="drawn sets of values that an answer is the mean over", source="ours; the paper: 1"
        )
        drop: float = param(
            0.5, ge=0, lt=1, description="probability that a value is dropped", source="Guo et al. 2018"
        )
        weight: float = param(0.03, gt=0, le=100, description="of the variation, lambda", source="Guo et al. 2018")
        variation: Variation = param(
            "rows",
            description="rows: norms of the differences of whole rows and columns; pixels: lengths of the gradients",
            source="Guo et al. 2018, TV_p with p = 2; Rudin, Osher & Fatemi 1992",
        )
        steps: int = param(100, ge=1, description="iterations of the solver", source="Guo et al. 2018")

    def transform(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """The simplest images."""
        kept = draw.uniform("kept", *images.shape[1:]) >= self.params.drop
        params = self.params
        return least_variation(images, kept[None], params.weight, params.variation, params.steps).clamp(0, 1)
