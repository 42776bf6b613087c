"""The L2 distance: the Euclidean length of the change."""

from __future__ import annotations

from charpy_plugins.metrics.lp import LpDistance


class L2(LpDistance):
    """Euclidean length of the change of all features: sqrt(sum (x' - x)^2); at most scale * sqrt(C * H * W)."""

    order = 2
