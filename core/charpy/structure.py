"""Structural similarity to given images, and its slope in closed form: what attacks that look at SSIM share.

The windows are those of the metric `ssim`: Gaussian, wholly inside the image, the largest odd one that fits where the
image is smaller than the window asked for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import torch
from pydantic import AfterValidator

from charpy.errors import DataError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.B: a Gaussian window of 11 x 11 with this standard deviation
STEADY = (0.01**2, 0.03**2)  # C1 and C2 there, for image values in [0, 1]
MIDDLE = 0.5


def _odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"a window has a middle pixel: {window - 1} or {window + 1}, not {window}")
    return window


class WindowParams(BaseParams):
    """The window of what looks through one."""

    window: Annotated[int, AfterValidator(_odd)] = param(
        WINDOW,
        ge=3,
        le=43,
        description="side of the Gaussian window, odd; its standard deviation is 1.5 / 11 of it",
        unit="pixels",
        source="Wang et al. 2004, section III.B",
    )


class Seen(StrEnum):
    """What a change is to look like (Sharif, Bauer & Reiter 2018): `imperceptible` raises SSIM, `perceptible` lowers
    it."""

    IMPERCEPTIBLE = "imperceptible"
    PERCEPTIBLE = "perceptible"

    @property
    def sign(self) -> int:
        """Along (1) or against (-1) the slope of SSIM."""
        return 1 if self is Seen.IMPERCEPTIBLE else -1


def fitting(window: int, images: torch.Tensor) -> int:
    """`window`, or the largest odd window that fits into `images`, where that is smaller.

    Raises:
        DataError: a side of the images is below 3 pixels.
    """
    side = min(images.shape[-2:])
    fit = min(window, side - 1 + side % 2)
    if fit < 3:
        raise DataError(
            "the images are too small for a similarity of windows",
            found=f"{images.shape[-2]} x {images.shape[-1]} pixels",
            expected="at least 3 x 3 pixels",
            hint="use what needs no windows: a metric such as psnr, l2, linf; an attack such as pgd, cw",
        )
    return fit


def sigma_of(window: int) -> float:
    """The standard deviation of a Gaussian window: 1.5 for 11 pixels, and in proportion for others (ours)."""
    return SIGMA * window / WINDOW


class Structure:
    """SSIM (Wang, Bovik, Sheikh & Simoncelli 2004, eq. 13) to N images x, for images x + d near them.

    With m the mean of d in a window, v its variance and c its covariance with x, eq. 13 is L K,
    L = 1 - m^2 / (mean(x)^2 + mean(x + d)^2 + C1) and K = 1 - v / (2 var(x) + 2 c + v + C2): no variance is a
    difference of large numbers, so that float32 is enough, and SSIM is exactly 1 with slope 0 at d = 0. It is the mean
    over windows and channels.

    Args:
        images: `(N, C, H, W)` in [0, 1].
        window: side of the window in pixels, odd; `fitting` says which one is taken.

    Raises:
        DataError: images below 3 x 3 pixels.
    """

    def __init__(self, images: torch.Tensor, window: int = WINDOW) -> None:
        self.window = fitting(window, images)
        place = torch.arange(self.window, dtype=torch.float64, device="cpu") - self.window // 2
        weights = torch.exp(-place.square() / (2 * sigma_of(self.window) ** 2))
        self._weights: list[float] = (weights / weights.sum()).tolist()
        exact = images.to(torch.float64) - MIDDLE
        mean = self._gather(exact)
        spread = (self._gather(exact.square()) - mean.square()).clamp_min_(0)
        self._images, self._mean, self._spread = images, mean.to(images.dtype), spread.to(images.dtype)

    def rows(self, sample: torch.Tensor) -> Structure:
        """That of the images `sample` `(B,)`."""
        part = Structure.__new__(Structure)
        part.window, part._weights = self.window, self._weights
        part._images, part._mean, part._spread = (
            whole.index_select(0, sample) for whole in (self._images, self._mean, self._spread)
        )
        return part

    def similarity(self, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` in [-1, 1], of `perturbed` `(N, C, H, W)`."""
        luminance, structure, *_ = self._factors(perturbed - self._images)
        return (luminance * structure).flatten(1).mean(1)

    def slope(self, perturbed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(N,)` similarities, and their gradients `(N, C, H, W)` with respect to `perturbed`."""
        delta = perturbed - self._images
        luminance, structure, shift, bright, varied = self._factors(delta)
        of_square = -luminance * structure / varied
        of_product = 2 * luminance * (1 - structure) / varied
        light = 2 * shift / bright * (shift * (self._mean + MIDDLE + shift) / bright - 1)
        of_shift = structure * light - 2 * shift * of_square - self._mean * of_product
        square, product, rest = self._scatter(torch.stack([of_square, of_product, of_shift]))
        gradient = (2 * delta * square + (self._images - MIDDLE) * product + rest) / of_square[0].numel()
        return (luminance * structure).flatten(1).mean(1), gradient

    def _factors(self, delta: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """L, K, m and the denominators in L and K, `(N, C, h, w)` each, a value a window."""
        parts = torch.stack([delta, delta.square(), delta * (self._images - MIDDLE)])
        shift, square, product = self._gather(parts)
        mean = self._mean + MIDDLE
        bright = mean.square() + (mean + shift).square() + STEADY[0]
        variance = (square - shift.square()).clamp_min(0)
        varied = (2 * (self._spread + product - self._mean * shift) + variance).clamp_min(0) + STEADY[1]
        return 1 - shift.square() / bright, 1 - variance / varied, shift, bright, varied

    def _gather(self, values: torch.Tensor) -> torch.Tensor:
        """The weighted mean of each window, `(..., H, W)` to `(..., h, w)`."""
        for dim in (-2, -1):
            size = values.shape[dim] - self.window + 1
            total = values.narrow(dim, 0, size) * self._weights[0]
            for place, weight in enumerate(self._weights[1:], 1):
                total.add_(values.narrow(dim, place, size), alpha=weight)
            values = total
        return values

    def _scatter(self, values: torch.Tensor) -> torch.Tensor:
        """The adjoint of `_gather`, `(..., h, w)` to `(..., H, W)`."""
        for dim in (-1, -2):
            size = values.shape[dim]
            shape = list(values.shape)
            shape[dim] = size + self.window - 1
            total = values.new_zeros(shape)
            for place, weight in enumerate(self._weights):
                total.narrow(dim, place, size).add_(values, alpha=weight)
            values = total
        return values
