"""Adversarial magnification (Zhang, Avrithis, Furon & Amsaleg 2019, appendix A): what hides in smooth areas is seen."""

from __future__ import annotations

import math

import torch

from charpy.bilateral import bilateral

BETA = 0.8
SIGMA_SPACE = 5.0
SIGMA_COLOUR = 5.0
"""In image values, of [0, 1]: every pixel of the window counts nearly as its nearness says. The paper gives 5 without a
scale. It also filters with 0.2, which only [0, 1] can mean; and read as 5/255, magnified benign images are noise: their
correlation with the image itself, over 32 images, is 0.07 on CIFAR-10 and -0.04 on MNIST, where edges are all that
is left. With 5 it is 0.81 and 0.97, and an FGSM perturbation of 4/255 that is 3 % of a CIFAR-10 image is 14 % of its
magnification."""

REACH = 3.0
"""Standard deviations of distance at which the window ends."""

VALUES = 1 << 18
"""Image values that are magnified at a time, at least one image; it bounds the memory, and never changes a result."""


def magnified(
    images: torch.Tensor, *, beta: float = BETA, sigma_space: float = SIGMA_SPACE, sigma_colour: float = SIGMA_COLOUR
) -> torch.Tensor:
    """mag(x) = (x - mu) / (beta sigma + (1 - beta) sigma_image) (eq. 22): no reference image is needed.

    mu is the bilateral mean of x, sigma the square root of the bilateral mean of (x - mu)^2 with the weights of x (the
    guided filter), sigma_image the standard deviation over the whole image. All are per channel, but a weight follows
    from the colours of all channels together. Where nothing varies the value is 0.

    Differs from the paper: it prints sigma with the exponent -1/2, a misprint for 1/2, since sigma is called a standard
    deviation and has to be of the unit of x. It does not say how far the window reaches: here 3 standard deviations.

    Args:
        images: float `(N, C, H, W)` in [0, 1].
        beta: in [0, 1], how much the local variation counts; 1 - beta, the global one, keeps flat areas quiet.
        sigma_space: standard deviation of the weight of distance, in pixels.
        sigma_colour: standard deviation of the weight of a difference of colours, in image values; see
            `SIGMA_COLOUR`. The smaller, the more of what is seen is noise, also in benign images.

    Returns:
        `(N, C, H, W)`, signed, in standard deviations.
    """
    rows = max(1, VALUES // max(1, math.prod(images.shape[1:])))
    parts = torch.split(images, rows)
    return torch.cat([_magnified(part, beta, sigma_space, sigma_colour) for part in parts])


def _magnified(images: torch.Tensor, beta: float, sigma_space: float, sigma_colour: float) -> torch.Tensor:
    window = 2 * math.ceil(REACH * sigma_space) + 1
    excess = images - bilateral(images, window, sigma_space, sigma_colour)
    variance = bilateral(excess.square(), window, sigma_space, sigma_colour, guide=images)
    overall = (images - images.mean((-2, -1), keepdim=True)).square().mean((-2, -1), keepdim=True)
    spread = beta * _root(variance) + (1 - beta) * _root(overall)
    flat = spread == 0
    return excess.masked_fill(flat, 0.0) / spread.masked_fill(flat, 1.0)


def _root(variance: torch.Tensor) -> torch.Tensor:
    """The square root; 0, with a gradient of 0, where there is no variance or rounding left less than none."""
    none = variance <= 0
    return variance.masked_fill(none, 1.0).sqrt().masked_fill(none, 0.0)
