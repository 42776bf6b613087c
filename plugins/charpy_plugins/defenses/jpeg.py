"""JPEG compression before the model (Dziugaite, Ghahramani & Roy 2016; Guo et al. 2018)."""

from __future__ import annotations

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Transformation
from charpy_plugins.filters.jpeg import Subsampling, jpeg


class Jpeg(Transformation):
    """Compresses and decompresses each image, after rounding it to 8 bits.

    The lossy part of a baseline JPEG codec in whole numbers, all images at once on their device, with the results of
    Pillow (libjpeg). Gradients pass it as if it were not there, which is enough to break it (Athalye, Carlini & Wagner
    2018, section 5.1.2).
    """

    gradient = GradientPath.BPDA

    class Params(BaseParams):
        """How much is lost."""

        quality: int = param(
            75, ge=1, le=100, description="as in the programs of the Independent JPEG Group", source="Guo et al. 2018"
        )
        subsampling: Subsampling = param("4:2:0", description="4:2:0 halves the resolution of colour, as Pillow does")

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The decompressed images."""
        return jpeg(images, self.params.quality, self.params.subsampling)
