"""The minimal transform that aligns two images, and the difference that is left."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.registration import Limits, best_transforms, laid, mean_square, reach
from charpy_plugins.metrics.windows import common_dtype

GAIN = 0.01
"""By this share, at least, a transform lowers the mean square difference; else there is none."""


class Alignment(Metric):
    """The rotation, shift and scale that best lay the perturbed image on the original; the difference that is left.

    Sharif, Bauer & Reiter 2018, section 5.2, name the minimal transform that aligns two images as a measure of
    similarity (Kanbak et al. 2018; Rozsa et al. 2016); the definition is ours. Of all transforms within the limits, by
    `charpy.warp.affine`, the one that leaves the least mean square difference, searched by `registration`. Pixels that
    come from beyond the edge do not count; the original must be covered to the share `overlap`. No transform is the
    answer unless another lowers the mean square by 1 %. A shift by parts of a pixel also smooths, so noise alone may
    find one. `value`:

    residual: root mean square difference that is left, over what is covered; never above that of the images as they
    are. rotation: degrees, without a sign. translation: pixels. scale: percent, 100 (max(s, 1/s) - 1). size: root mean
    square distance, in pixels, by which the transform moves the pixels of the picture.

    Not symmetric: the perturbed image is moved; 0 between equals. 8 x 8 or 28 x 28 pixels are no different; of a single
    pixel nothing can be moved.
    """

    unit = "image values"
    range = (0.0, 1.0)

    class Params(BaseParams):
        """What is said, and how large the transforms may be."""

        value: Literal["residual", "rotation", "translation", "scale", "size"] = param(
            "residual", description="what is said of the best transform", source="ours"
        )
        rotation: float = param(30, ge=0, le=180, description="largest", unit="degrees", source="Engstrom et al. 2019")
        translation: float = param(
            0.15, ge=0, le=0.5, description="largest, down and to the right", unit="share of the side", source="ours"
        )
        scale: float = param(1.25, ge=1, le=2, description="largest; the least is its inverse", source="ours")
        overlap: float = param(
            0.5, gt=0, le=1, description="least share of the original that is covered", source="ours"
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.unit, largest = {
            "residual": ("image values", 1.0),
            "rotation": ("degrees", float(self.params.rotation)),
            "translation": ("pixels", math.inf),
            "scale": ("%", 100 * (self.params.scale - 1)),
            "size": ("pixels", math.inf),
        }[self.params.value]
        self.range = (0.0, largest)

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` values; the residual is differentiable, with the best transform held (the subgradient is 0 at 0).

        NaN where an image holds one.

        Raises:
            DataError: not a pair of images.
        """
        check_pair(images, perturbed)
        how = self.transforms(images, perturbed)
        found = self._residual(images, perturbed, how) if self.params.value == "residual" else self._said(how, images)
        unknown = (images.isnan() | perturbed.isnan()).flatten(1).any(1)
        return found.masked_fill(unknown, float("nan")).to(common_dtype(images, perturbed))

    @torch.no_grad()
    def transforms(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N, 4)`: the best transforms, in degrees, pixels down and to the right, and logarithms of the scale."""
        if not len(images):
            return torch.zeros(0, 4, dtype=torch.float64, device=images.device)
        limits = Limits(*(self.params.model_dump()[name] for name in Limits._fields))
        before, after = (part.to(torch.float32).nan_to_num() for part in (images, perturbed))
        how = best_transforms(before, after, limits)
        gained = mean_square(before, after, how, limits.overlap) < (1 - GAIN) * (after - before).square().mean(
            (1, 2, 3)
        )
        return torch.where(gained[:, None], how, 0.0).double()

    def _residual(self, images: torch.Tensor, perturbed: torch.Tensor, how: torch.Tensor) -> torch.Tensor:
        still = (how == 0).all(1)[:, None, None, None]
        moved, inside = laid(perturbed.double(), how)
        gap = torch.where(still, perturbed.double(), moved) - images.double()
        inside = torch.where(still, 1.0, inside)
        length: torch.Tensor = torch.linalg.vector_norm((inside.sqrt() * gap).flatten(1), dim=1)
        return length / (inside.sum((1, 2, 3)) * images.shape[1]).sqrt()

    def _said(self, how: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        angle, shift, scale = how[:, 0].deg2rad(), how[:, 1:3].square().sum(1), how[:, 3].exp()
        turned = (scale * angle.cos() - 1) ** 2 + (scale * angle.sin()) ** 2
        said: dict[str, torch.Tensor] = {
            "rotation": how[:, 0].abs(),
            "translation": shift.sqrt(),
            "scale": 100 * (how[:, 3].abs().exp() - 1),
            "size": (shift + turned * reach(*images.shape[2:]) ** 2).sqrt(),
        }
        return said[self.params.value]
