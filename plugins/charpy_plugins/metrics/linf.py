"""The Linf distance: the largest change."""

from __future__ import annotations

from typing import Any

from charpy_plugins.metrics.lp import LpDistance


class Linf(LpDistance):
    """Largest absolute change of any feature: max |x' - x|; at most the scale."""

    order = float("inf")
    range = (0.0, 1.0)

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.range = (0.0, float(self.params.scale))
