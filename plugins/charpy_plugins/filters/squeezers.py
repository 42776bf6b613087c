"""The squeezers of Xu, Evans & Qi 2018 by the names that the paper gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from pydantic import AfterValidator

from charpy_plugins.filters.bit_depth import bit_depth
from charpy_plugins.filters.median import median
from charpy_plugins.filters.non_local_means import non_local_means

FORMS = (
    "bit_depth_B (1..8 bits), median_filter_H_W (windows up to 9 x 9) or non_local_means_S_P_H (search window and "
    "patch, odd and up to 31, strength in 1/255)"
)
_FORM = re.compile(r"(bit_depth|median_filter|non_local_means)((?:_[0-9]{1,3})+)")


class Squeezer(NamedTuple):
    """Images `(N, C, H, W)` in [0, 1] to simpler ones; `differentiable`: autograd follows it to what matters."""

    apply: Callable[[torch.Tensor], torch.Tensor]
    differentiable: bool


def squeezer(name: str) -> Squeezer:
    """The squeezer of that name.

    Raises:
        ValueError: there is none.
    """
    found = _FORM.fullmatch(name)
    kind, numbers = (found[1], [int(number) for number in found[2][1:].split("_")]) if found else ("", [])
    if kind == "bit_depth" and len(numbers) == 1 and 1 <= numbers[0] <= 8:
        return Squeezer(lambda images: bit_depth(images, numbers[0]), differentiable=False)
    if kind == "median_filter" and len(numbers) == 2 and 1 <= min(numbers) <= max(numbers) <= 9:
        return Squeezer(lambda images: median(images, *numbers), differentiable=True)
    if kind == "non_local_means" and len(numbers) == 3 and min(numbers) and max(numbers[:2]) <= 31:
        search, patch, strength = numbers
        if search % 2 and patch % 2:
            return Squeezer(
                lambda images: non_local_means(images, search, patch, strength / 255).clamp(0, 1), differentiable=False
            )
    raise ValueError(f"{name!r} is no squeezer: {FORMS}")


def _checked(name: str) -> str:
    squeezer(name)
    return name


SqueezerName = Annotated[str, AfterValidator(_checked)]
"""A parameter that names a squeezer."""
