"""How step sizes fall in the course of a search whose rows each count their own steps."""

from __future__ import annotations

import torch


def cosine(iteration: torch.Tensor, steps: int, first: float, last: float) -> torch.Tensor:
    """`(B,)` the value at each row's iteration: half a cosine from `first` at 0 to `last` at `steps`."""
    share = (1 + torch.cos(torch.pi * iteration.clamp_min(0) / steps)) / 2
    value: torch.Tensor = last + (first - last) * share
    return value
