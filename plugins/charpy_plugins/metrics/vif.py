"""Visual information fidelity: how much of an image's information is left."""

from __future__ import annotations

import torch

from charpy.errors import DataError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Direction, Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import common_dtype, torchmetrics_image

SMALLEST = 41


class Vif(Metric):
    """Visual information fidelity in the pixel domain (VIFp) of Sheikh & Bovik 2006, the mean over channels.

    By torchmetrics, in float64 and on the 0..255 scale that the noise is stated in, over four scales with windows of
    17, 9, 5 and 3 pixels. Not symmetric: the first image is the reference. 1 between equals, above 1 where the
    perturbation adds contrast. A reference with a channel of one value has no information there: 1 between equals,
    else NaN (ours). Not differentiable. Needs 41 x 41 pixels.
    """

    unit = "1"
    direction = Direction.SIMILARITY

    class Params(BaseParams):
        """The noise of the eye, and the scale of the values."""

        noise: float = param(
            2.0,
            gt=0,
            le=1000,
            description="variance of the visual noise",
            unit="squared steps of 1/255",
            source="Sheikh & Bovik 2006, section IV",
        )
        data_range: float = param(
            1, gt=0, le=255, description="largest less smallest possible value of an image", unit="image values"
        )

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` fidelities without a gradient; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or images below 41 x 41 pixels.
        """
        check_pair(images, perturbed)
        if min(images.shape[-2:]) < SMALLEST:
            raise DataError(
                "the images are too small for vif",
                found=f"{images.shape[-2]} x {images.shape[-1]} pixels",
                expected=f"at least {SMALLEST} x {SMALLEST} pixels",
                hint="use ssim, which takes a smaller window, or enlarge both images first",
            )
        scale = 255 / self.params.data_range
        fidelity: torch.Tensor = torchmetrics_image().visual_information_fidelity(
            perturbed.double() * scale, images.double() * scale, sigma_n_sq=float(self.params.noise), reduction="none"
        )
        equal = (images == perturbed).flatten(1).all(1)
        return torch.where(equal, 1.0, fidelity).to(common_dtype(images, perturbed))
