"""What the metrics over windows share: torchmetrics, loaded late, and a window that fits the image."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from charpy.errors import PluginError
from charpy.structure import WindowParams, fitting, sigma_of

__all__ = ["WindowParams", "common_dtype", "fitting", "sigma_of", "torchmetrics_image"]


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


def common_dtype(images: torch.Tensor, perturbed: torch.Tensor) -> torch.dtype:
    """The type of the values; what is between is float64, for a variance is a small difference of large numbers."""
    return torch.promote_types(images.dtype, perturbed.dtype)
