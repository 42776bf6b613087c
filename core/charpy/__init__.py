"""Breaks, and proves, image classifiers: L0 and Linf robustness side by side, every figure a bracket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charpy.api import Result, assess
    from charpy.threat import Access, Goal, Grid, Norm, ThreatModel

__all__ = ["Access", "Goal", "Grid", "Norm", "Result", "ThreatModel", "__version__", "assess"]

_HOME = {
    "assess": "charpy.api",
    "Result": "charpy.api",
    **dict.fromkeys(("Access", "Goal", "Grid", "Norm", "ThreatModel"), "charpy.threat"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import charpy` alone loads neither torch nor a plugin."""
    import importlib
    from importlib.metadata import version

    if name == "__version__":
        return version("charpy")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'charpy' has no attribute {name!r}")
