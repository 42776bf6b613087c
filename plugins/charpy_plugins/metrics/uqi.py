"""The universal image quality index: the structural similarity without its constants."""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d

from charpy.interfaces.metric import Direction, Metric
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.windows import WindowParams, common_dtype, fitting, sigma_of, torchmetrics_image

# torchmetrics adds 2.2e-16 to the denominator, more than the denominator itself at the rim of a digit on black. The
# index does not depend on the scale, so it is taken of images so large that the addition does not count.
LARGE = 1e6


class Uqi(Metric):
    """Universal image quality index of Wang & Bovik 2002, eq. 1 and 2, the mean over windows and channels.

    4 cov mx my / ((vx + vy) (mx^2 + my^2)) in Gaussian windows (the paper's are flat, 8 x 8), by torchmetrics, in
    float64, over the windows that lie wholly inside the image. Between two windows of one value each, the paper's
    2 mx my / (mx^2 + my^2) (torchmetrics: 0), and 1 where both are black (ours). Where the window does not fit, the
    largest odd one that does is taken: 7 at 8 x 8 pixels (ours). Symmetric; 1 between equals; does not depend on the
    scale of the values. Without constants it is harsh on the faintest change of a flat area.
    """

    unit = "1"
    direction = Direction.SIMILARITY
    range = (-1.0, 1.0)

    class Params(WindowParams):
        """The window."""

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` similarities, differentiable where no window is of one value; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or images below 3 x 3 pixels.
        """
        check_pair(images, perturbed)
        window = fitting(self.params.window, images)
        x, y = images.double(), perturbed.double()
        index: torch.Tensor = torchmetrics_image().universal_image_quality_index(
            y * LARGE, x * LARGE, (window, window), (sigma_of(window),) * 2, reduction="none"
        )
        border = window // 2
        mx, my = (part[..., border:-border, border:-border] for part in (x, y))
        flat = _flat(x, window) & _flat(y, window)
        power = mx**2 + my**2
        black = power == 0
        luminance = torch.where(black, 1.0, 2 * mx * my / torch.where(black, 1.0, power))
        return torch.where(flat, luminance, index).mean(dim=(1, 2, 3)).to(common_dtype(images, perturbed))


def _flat(images: torch.Tensor, window: int) -> torch.Tensor:
    """Whether each window has one value: exact, unlike a variance."""
    return max_pool2d(images, window, stride=1) == -max_pool2d(-images, window, stride=1)
