"""One sample as every attack of one or more runs left it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest witness that one attack found of the sample.

    Attributes:
        image: `(C, H, W)`, uint8 on the grid or float32 in [0, 1] off it.
        distance: pixels or 1/255 steps.
        l2: on the 0..255 scale.
        queries: rows that the attack spent until this witness, None where it was not counted.
    """

    image: NDArray[Any]
    predicted_name: str
    distance: float
    l2: float
    queries: int | None


@dataclass(frozen=True, eq=False)
class Row:
    """What one attack made of the sample.

    Attributes:
        run: its name, told apart from others.
        outcome: `broken`, `held`, `invalid`, `clean_error`, or `not run`.
        reason: in words, where there is no witness.
    """

    run: str
    attack: str
    outcome: str
    reason: str
    found: Found | None


@dataclass(frozen=True, eq=False)
class Section:
    """The attacks on one model under one norm, in the order of the runs and of their batteries."""

    model: str
    norm: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """One sample: its original `(C, H, W)`, as stored, and what every attack made of it.

    Attributes:
        contest: every attack of every run ran on the sample, whatever the others broke.
    """

    name: str
    dataset: str
    sample: str
    label_name: str
    original: NDArray[Any]
    runs: tuple[str, ...]
    sections: tuple[Section, ...]
    contest: bool = False
