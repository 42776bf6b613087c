"""Feature squeezing as a defence (Xu, Evans & Qi 2018): the model sees a simpler image."""

from __future__ import annotations

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Transformation, straight_through
from charpy_plugins.filters.squeezers import FORMS, SqueezerName, squeezer


class FeatureSqueezing(Transformation):
    """Fewer bits, a median filter, non-local means: any of them, one after the other.

    Squeezers have the paper's names (section III): `bit_depth_5` keeps 5 bits, `median_filter_2_2` takes the median of
    2 x 2 windows, `non_local_means_13_3_2` compares 3 x 3 patches within 13 x 13 pixels with strength 2/255. Gradients
    pass a median filter exactly, the other squeezers as if they were not there.
    """

    gradient = GradientPath.BPDA

    class Params(BaseParams):
        """Which squeezers, in order."""

        squeezers: tuple[SqueezerName, ...] = param(
            ("bit_depth_5", "median_filter_2_2"),
            min_length=1,
            description=f"in order: {FORMS}",
            source="Xu et al. 2018, section V: two of the three of the best detector for CIFAR-10",
        )

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The squeezed images."""
        for name in self.params.squeezers:
            images = squeezer(name).apply(images)
        return images

    def surrogate(self, images: torch.Tensor) -> torch.Tensor:
        """The same values, but for the gradient without those that have no useful one."""
        for name in self.params.squeezers:
            found = squeezer(name)
            if found.differentiable:
                images = found.apply(images)
            else:
                images = straight_through(found.apply(images.detach()), images)
        return images
