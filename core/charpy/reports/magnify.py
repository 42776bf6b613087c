"""A sample under adversarial magnification, ready to be drawn (Zhang et al. 2019, Figures 1 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.sheet import Found, Row, Sheet
from charpy.reports.images import Pixels, as_bytes, magnified_images, scale255, scaled, tone


@dataclass(frozen=True, eq=False)
class View:
    """One attack's row with its pictures, `(C, H, W)` each; none where there is no witness.

    Attributes:
        perturbation: each channel for itself mapped from its least to its largest value to black and white (Figure 4).
        seen: root mean square difference of the two magnified images, in local standard deviations.
    """

    row: Row
    witness: Pixels | None = None
    perturbation: Pixels | None = None
    magnified: Pixels | None = None
    seen: float = 0.0


@dataclass(frozen=True, eq=False)
class Views:
    """A sheet with its pictures; `sections` are `(model, norm, views)`."""

    sheet: Sheet
    original: Pixels
    magnified: Pixels
    sections: tuple[tuple[str, str, tuple[View, ...]], ...]


def views_of(sheet: Sheet) -> Views:
    """Every picture of the sheet; all images are magnified in one batch."""
    images = [scale255(row.found.image) for section in sheet.sections for row in section.rows if row.found is not None]
    first, *others = magnified_images([scale255(sheet.original), *images])
    rest = iter(others)
    sections = tuple(
        (
            section.model,
            section.norm,
            tuple(
                View(row) if row.found is None else _view(sheet, row, row.found, (first, next(rest)))
                for row in section.rows
            ),
        )
        for section in sheet.sections
    )
    return Views(sheet, as_bytes(scale255(sheet.original)), tone(first), sections)


def _view(sheet: Sheet, row: Row, found: Found, magnified: tuple[NDArray[np.float32], NDArray[np.float32]]) -> View:
    witness = scale255(found.image)
    before, after = (image.astype(np.float64) for image in magnified)
    return View(
        row=row,
        witness=as_bytes(witness),
        perturbation=scaled(witness - scale255(sheet.original)),
        magnified=tone(magnified[1]),
        seen=float(np.sqrt(np.mean((after - before) ** 2))),
    )
