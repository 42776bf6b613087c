"""A detector of changes to an empty background, such as that of MNIST."""

from __future__ import annotations

import torch

from charpy.foreground import ForegroundParams, foreground, ink
from charpy.interfaces.component import param
from charpy.interfaces.defense import Detector
from charpy.interfaces.model import Model

PIECE = 4096
"""Images that are looked at once."""


class BackgroundChange(Detector):
    """Counts the pixels that are neither empty background nor near a stroke.

    Clean digits are drawn on a background of exactly one value, with soft edges a pixel or two wide. A pixel that
    differs from the background, however little, and has no stroke within reach was changed, or is a flaw of the image.
    The original is not needed, and the model is not asked. What an attack changes near the strokes is not seen: the
    attack `foreground_pgd` keeps to that.

    The idea, that checking for modified background pixels detects adversarial MNIST images and that attacks which know
    of it get past, is from the blog post Adversarial examples: rethinking the definition; the definition is ours.
    """

    class Params(ForegroundParams):
        """What counts as drawn, and what as empty."""

        tolerance: float = param(
            0.0,
            ge=0,
            lt=1,
            description="largest difference from the background that is still empty",
            unit="image values",
            source="ours",
        )

    def flag(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N,)`: how many pixels, from 0 to H * W."""
        scores = [self._changed(piece) for piece in torch.split(images, PIECE)]
        return torch.cat(scores) if scores else images.new_zeros(0)

    def _changed(self, images: torch.Tensor) -> torch.Tensor:
        used = ~(ink(images, self.params) <= self.params.tolerance)  # NaN is no background
        changed: torch.Tensor = used & ~foreground(images, self.params)
        return changed.flatten(1).sum(1).to(torch.float32)
