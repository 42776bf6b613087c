"""What the norms are called in a report, and what a level or a distance means in each."""

from __future__ import annotations

from collections.abc import Iterable

from charpy.reports.figures import number
from charpy.threat import COUNTED, DUAL, OWN, Norm

SHORT = {Norm.L0: "L0", Norm.L1: "L1", Norm.L2: "L2", Norm.LINF: "Linf", Norm.UNRESTRICTED: "unrestricted"}

UNITS = {Norm.L0: "pixels", Norm.L1: "1/255", Norm.L2: "1/255", Norm.LINF: "1/255", Norm.UNRESTRICTED: "any image"}


def short(norm: str) -> str:
    """`L0`, `Linf`, `unrestricted`."""
    return SHORT[Norm(norm)]


def name(norm: str) -> str:
    """With the unit of its levels: `L0 (pixels)`, `L2 (1/255 steps)`."""
    return f"{short(norm)} ({UNITS[Norm(norm)]}{'' if norm in COUNTED else ' steps'})"


def radius(norm: str, th: int) -> str:
    """What level `th` allows: `3 pixels`, `3/255`; under L1 and L2 also in image values, `128/255 = 0.502`."""
    if th == OWN:
        return "each image's own"
    if norm == Norm.L0:
        return "1 pixel" if th == 1 else f"{th} pixels"
    if norm == Norm.UNRESTRICTED:
        return "any image"
    return f"{th}/255" if norm == Norm.LINF else f"{th}/255 = {number(th / 255, 3)}"


def level(th: int) -> str:
    """The level by its number, or that each sample has its own."""
    return "own" if th == OWN else str(th)


def moved(norm: str, distance: float) -> str:
    """How far a witness is from its original, in words; `distance` in levels."""
    size = number(distance, 2)
    if norm == Norm.L0:
        return f"{size} pixel{'' if distance == 1 else 's'} changed"
    if norm == Norm.LINF:
        return f"every value within {size}/255"
    if norm == Norm.UNRESTRICTED:
        return "bounded by the attack alone"
    return f"{short(norm)} distance {size}/255"


def headline(norms: Iterable[str]) -> str:
    """What a report over these norms is."""
    norms = set(norms)
    others = [short(norm) for norm in Norm if norm in norms and norm not in DUAL]
    if norms >= set(DUAL):
        return "Dual robustness assessment, L0 and Linf" + (f", with {' and '.join(others)}" if others else "")
    return f"Robustness assessment, {' and '.join(short(norm) for norm in Norm if norm in norms)}"
