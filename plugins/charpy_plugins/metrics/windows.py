"""What the metrics over windows share: torchmetrics, loaded late, and a window that fits the image."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import torch
from pydantic import AfterValidator

from charpy.errors import DataError, PluginError

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.B: a Gaussian window of 11 x 11 with this standard deviation


def _odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"a window has a middle pixel: {window - 1} or {window + 1}, not {window}")
    return window


OddWindow = Annotated[int, AfterValidator(_odd)]
"""The side of a square window, in pixels."""


def torchmetrics_image() -> Any:
    """The module `torchmetrics.functional.image`, imported at the first use (a few seconds).

    Raises:
        PluginError: it cannot be imported, also where that is the fault of a torchvision made for another torch.
    """
    try:
        return importlib.import_module("torchmetrics.functional.image")
    except Exception as cause:  # a torchvision that does not fit raises RuntimeError, OSError, AttributeError, ...
        raise PluginError(
            "torchmetrics cannot be imported",
            found=f"{type(cause).__name__}: {cause}",
            expected="torchmetrics beside either no torchvision or the one made for the installed torch",
            hint="pip install torchmetrics; if the error names torchvision, which charpy does not need: "
            "pip uninstall torchvision, or install the release for this torch",
        ) from cause


def fitting(window: int, images: torch.Tensor) -> int:
    """`window`, or the largest odd window that fits into `images`, where that is smaller.

    Raises:
        DataError: a side of the images is below 3 pixels.
    """
    side = min(images.shape[-2:])
    fit = min(window, side - 1 + side % 2)
    if fit < 3:
        raise DataError(
            "the images are too small for a metric over windows",
            found=f"{images.shape[-2]} x {images.shape[-1]} pixels",
            expected="at least 3 x 3 pixels",
            hint="use a metric without windows: psnr, l2, linf, ...",
        )
    return fit


def sigma_of(window: int) -> float:
    """The standard deviation of a Gaussian window: 1.5 for 11 pixels, and in proportion for others (ours)."""
    return SIGMA * window / WINDOW


def common_dtype(images: torch.Tensor, perturbed: torch.Tensor) -> torch.dtype:
    """The type of the values; what is between is float64, for a variance is a small difference of large numbers."""
    return torch.promote_types(images.dtype, perturbed.dtype)
