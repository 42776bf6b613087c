"""The L1 distance: the sum of all changes."""

from __future__ import annotations

from charpy_plugins.metrics.lp import LpDistance


class L1(LpDistance):
    """Sum of the absolute changes of all features: sum |x' - x|; at most scale * C * H * W."""

    order = 1
