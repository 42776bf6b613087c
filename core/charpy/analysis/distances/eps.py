"""Levels chosen from the distances between classes: how far an adversary may go, for every image."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.analysis.distances.measure import Floats, Measure
from charpy.analysis.distances.sample import Drawn
from charpy.errors import SpecError
from charpy.pairwise import measured, pairs_at_once
from charpy.pixels import as_images
from charpy.threat import LAST_LEVEL

Rule = Literal["half", "combination"]
Levels = NDArray[np.int64]

ALIKE = "ssim"
THRESHOLD = 0.9
"""Ours: below a structural similarity of 0.9 an MNIST image visibly carries what was added to it."""

COMBINE = 3
"""Images of each other class that every image is combined with."""

_ROUNDING = 1e-9
"""What rounding may leave of a distance in levels."""


class Alike(NamedTuple):
    """When a combination still looks like its image: the metric is at least (a distance: at most) the threshold."""

    by: Measure
    threshold: float

    def holds(self, values: torch.Tensor) -> torch.Tensor:
        """bool `(N,)`; a value that is NaN is not alike."""
        return values >= self.threshold if self.by.alike else values <= self.threshold


def half(nearest: Floats) -> Levels:
    """The largest whole level below half of each distance `(N,)`, in levels, to the nearest image of another class.

    Strictly below: two balls of different classes then have no point in common. 0 where no level is.
    """
    largest: Levels = np.ceil(nearest / 2 - _ROUNDING).astype(np.int64) - 1
    return np.maximum(largest, 0)


def combination(drawn: Drawn, alike: Alike, combine: int = COMBINE, last: int = LAST_LEVEL) -> Levels:
    """The largest Linf level `(N,)` at which every combination with another class still looks like its image.

    A combination of x0 is clip(x0 + th/255 sign(x1)), with x1 each of the first `combine` drawn images of every other
    class; from the next level on, one of them visibly carries the other class. Each is looked at where those before it
    have left the level and, where it is not alike there, the level is halved down to the one that is (it is taken for
    granted that what is not alike does not become so at a larger level). At most `last`.

    Raises:
        SpecError: a class has fewer than `combine` drawn images.
    """
    images, labels = as_images(drawn.piece.images), drawn.piece.labels
    least = min(rows.stop - rows.start for rows in drawn.rows)
    if not 1 <= combine <= least:
        raise SpecError(
            "every image is combined with drawn images of each other class",
            where="combine",
            found=combine,
            expected=f"1..{least}, the images of the smallest class",
        )
    partners = torch.stack([_partners(drawn, int(label), combine) for label in drawn.classes])
    number = torch.searchsorted(torch.tensor(drawn.classes), labels)
    level = torch.full((len(images),), last)
    for place in range(partners.shape[1]):
        sign = images[partners[number, place]].sign()
        level = _halved(images, sign, level, alike)
    found: Levels = level.numpy()
    return found


def combined(images: torch.Tensor, sign: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """clip(x0 + th/255 sign(x1)) of images `(N, C, H, W)` and levels `(N,)`."""
    return (images + (level / 255).to(images.dtype)[:, None, None, None] * sign).clamp_(0, 1)


def _partners(drawn: Drawn, label: int, combine: int) -> torch.Tensor:
    """`((classes - 1) * combine,)` rows, one class after the other."""
    rows = [rows for other, rows in zip(drawn.classes, drawn.rows, strict=True) if other != label]
    return torch.cat([torch.arange(part.start, part.start + combine) for part in rows])


def _halved(images: torch.Tensor, sign: torch.Tensor, level: torch.Tensor, alike: Alike) -> torch.Tensor:
    """The largest level up to `level` `(N,)` at which these combinations are alike."""

    def holds(rows: torch.Tensor, th: torch.Tensor) -> torch.Tensor:
        step = pairs_at_once(images)
        found = [
            alike.holds(measured(alike.by.metric, images[part], combined(images[part], sign[part], at)))
            for part, at in zip(torch.split(rows, step), torch.split(th, step), strict=True)
        ]
        return torch.cat(found)

    standing = (level > 0).nonzero()[:, 0]
    if not len(standing):
        return level
    lost = standing[~holds(standing, level[standing])]
    low, high = torch.zeros_like(level[lost]), level[lost]  # at 0 nothing is added; at `high` it is not alike
    while len(open_ := (high - low > 1).nonzero()[:, 0]):
        middle = (low[open_] + high[open_]) // 2
        good = holds(lost[open_], middle)
        low[open_[good]], high[open_[~good]] = middle[good], middle[~good]
    return level.index_copy(0, lost, low)
