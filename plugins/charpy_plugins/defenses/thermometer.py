"""Thermometer encoding (Buckman, Roy, Raffel & Goodfellow 2018): each value as a row of zeros and ones."""

from __future__ import annotations

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import GradientPath
from charpy.transforms import Shape, Transformation


class Thermometer(Transformation):
    """Encodes each value by the levels that it exceeds, for a model that was trained on this encoding.

    Channel c of l levels becomes the channels c l .. c l + l - 1, of which number k - 1 is 1 where x > k / l, else 0,
    k = 1..l. Gradients pass it as through min(max(x - k / l + 1/2, 0), 1), a ramp around the level.

    Differs from the paper: there, a level is 1 where x does not exceed it; a model that was trained so sees 1 - this.
    Differs from Athalye, Carlini & Wagner 2018, section 5.1.1: their ramp, min(max(x - k / l, 0), 1), begins at the
    level, so that a level that x does not exceed passes no gradient, and a black pixel none at all. On 40 images of
    MNIST, APGD through theirs breaks 4 at Linf 25/255, through this one 35.
    """

    gradient = GradientPath.BPDA

    class Params(BaseParams):
        """How finely."""

        levels: int = param(
            16, ge=2, le=256, description="channels for each channel", unit="levels", source="Buckman et al. 2018"
        )

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C l, H, W)` of zeros and ones."""
        return (self._excess(images) > 0).to(images.dtype).flatten(1, 2)

    def surrogate(self, images: torch.Tensor) -> torch.Tensor:
        """A ramp around each level, 1/2 to either side."""
        return (self._excess(images) + 0.5).clamp(0, 1).flatten(1, 2)

    def outer_shape(self, inner: Shape) -> Shape:
        """One channel for `levels` of those that the model inside takes.

        Raises:
            ModelError: its channels are no multiple of `levels`.
        """
        levels: int = self.params.levels
        if inner[0] % levels:
            raise ModelError(
                "the model inside does not take thermometer codes of so many levels",
                where="thermometer",
                found=f"(C, H, W) = {inner}",
                expected=f"a multiple of {levels} channels",
                hint="it is for a model that was trained on the encoding, with the same `levels`",
            )
        return inner[0] // levels, inner[1], inner[2]

    def _excess(self, images: torch.Tensor) -> torch.Tensor:
        levels: int = self.params.levels
        limits = torch.arange(1, levels + 1, device=images.device, dtype=images.dtype) / levels
        return images[:, :, None] - limits[:, None, None]
