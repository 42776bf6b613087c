"""Random resizing and padding (Xie et al. 2018, Mitigating adversarial effects through randomization)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from charpy.errors import ModelError
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.transforms import Draw, DrawParams, RandomTransformation, Shape, TransformedModel, boxed

PUBLISHED = 331 / 299
"""Side after padding / side of an image, in the paper."""


class RandomResize(RandomTransformation):
    """Resizes each image to a drawn size and pads it, at a drawn place, to a fixed one.

    The side is drawn from `ratio * padded side` to just below the padded side (in the paper, 299..330 of 331). For a
    model that takes one size only, the padded size is that size, and the images are shrunk instead.

    Differs from the paper: an answer is the mean over `draws` changes, the same for every image.
    """

    class Params(DrawParams):
        """How far sizes vary."""

        ratio: float = param(299 / 331, gt=0, le=1, description="smallest side / padded side", source="Xie et al. 2018")
        padded: float | None = param(
            None,
            ge=1,
            le=8,
            description="padded side / side of an image; if not given, 1 for a model that takes one size, else 331/299",
            source="Xie et al. 2018",
        )
        interpolation: Literal["nearest", "bilinear"] = param("nearest", description="of the resized images")
        fill: float = param(0.0, ge=0, le=1, description="value of the padding", source="Xie et al. 2018")

    def wrap(self, model: Model) -> TransformedModel:
        """The model behind the change; here it is known whether it takes more than one size."""
        padded = self.params.padded or (PUBLISHED if model.input_shape is None else 1.0)
        return TransformedModel(model, RandomResize(self.params.model_copy(update={"padded": padded})))

    def transform(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """The padded images."""
        height, width = (round(side * (self.params.padded or 1.0)) for side in images.shape[-2:])
        smallest = max(1, round(self.params.ratio * height))
        rows = smallest + draw.integer("size", max(1, height - smallest))
        columns = max(1, round(rows * width / height))
        top, left = draw.integer("top", height - rows + 1), draw.integer("left", width - columns + 1)
        resized = boxed(F.interpolate(images, (rows, columns), mode=self.params.interpolation))
        around = (left, width - columns - left, top, height - rows - top)
        return F.pad(resized, around, value=self.params.fill)

    def outer_shape(self, inner: Shape) -> Shape:
        """The images that are padded to the size of the model inside.

        Raises:
            ModelError: no size is padded to it.
        """
        padded = self.params.padded or 1.0
        outer = inner[0], round(inner[1] / padded), round(inner[2] / padded)
        if (round(outer[1] * padded), round(outer[2] * padded)) != inner[1:]:
            raise ModelError(
                "no image is padded to the size that the model inside takes",
                where="random_resize",
                found=f"(C, H, W) = {inner}, padded = {padded:g}",
                hint="leave out `padded`, or set it to this size / that of your images",
            )
        return outer
