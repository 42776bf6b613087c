"""The distances of drawn images by class: what every pair of classes has, and the nearest image of another class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.distances.sample import Drawn, Piece
from charpy.errors import PluginError
from charpy.interfaces.metric import Direction, Metric
from charpy.pairwise import distance_matrix, metric_matrix
from charpy.threat import Norm

if TYPE_CHECKING:
    from charpy.plugins import Registry

Floats = NDArray[np.float64]

NORMS = {"l0_pixels": Norm.L0, "l1": Norm.L1, "l2": Norm.L2, "linf": Norm.LINF}
"""Metrics that are measured as whole matrices."""

COLUMNS = 2048
"""Images of the whole dataset that are held against the drawn ones at once."""


class Measure(NamedTuple):
    """A metric by its kind.

    Attributes:
        kind: as `charpy plugins` lists it.
        metric: the component.
        norm: which one it is, None for any other metric.
    """

    kind: str
    metric: Metric
    norm: Norm | None

    @property
    def alike(self) -> bool:
        """Whether larger values are more alike."""
        return self.metric.direction is Direction.SIMILARITY

    @property
    def scale(self) -> float:
        """What one level of the norm is in the metric's unit."""
        return 1.0 if self.norm in {None, Norm.L0} else 1 / 255

    def matrix(self, first: Piece, second: Piece) -> Floats:
        """`(N, M)` values, `first` as originals; levels for a norm."""
        if self.norm is not None:
            found: Floats = distance_matrix(self.norm, first.images, second.images).numpy()
            return found
        values: Floats = metric_matrix(self.metric, first.images, second.images).numpy()
        return values


class Spread(NamedTuple):
    """Values of many pairs; all None but the counts where there is none.

    Attributes:
        pairs: that have a finite value.
        undefined: pairs that have none.
    """

    pairs: int
    undefined: int
    mean: float | None
    deviation: float | None
    least: float | None
    q1: float | None
    median: float | None
    q3: float | None
    most: float | None


class Nearest:
    """Of every drawn image the nearest of another class: `value` `(N,)` (levels for a norm), its id and label."""

    def __init__(self, size: int, *, alike: bool) -> None:
        self.alike = alike
        self.value = np.full(size, -np.inf if alike else np.inf)
        self.label = np.full(size, -1)
        self.ids = np.full(size, "", dtype=object)

    def update(self, rows: slice, values: Floats, labels: NDArray[np.int64], ids: Sequence[str]) -> None:
        """Images of other classes: `values` `(N, M)`; NaN where a pair does not count. The first of equals stays."""
        worst = -np.inf if self.alike else np.inf
        values = np.where(np.isnan(values), worst, values)
        column = values.argmax(1) if self.alike else values.argmin(1)
        best = values[np.arange(len(values)), column]
        better = best > self.value[rows] if self.alike else best < self.value[rows]
        place = np.arange(len(self.value))[rows][better]
        self.value[place] = best[better]
        self.label[place] = labels[column[better]]
        self.ids[place] = np.array(ids, dtype=object)[column[better]]


class Measured(NamedTuple):
    """`cells[a][b]`: class number a of the drawn ones as originals, b as the others; and the nearest images."""

    cells: list[list[Spread]]
    nearest: Nearest


def measure_of(kind: str, registry: Registry) -> Measure:
    """The metric of this kind with its default parameters.

    Raises:
        UnknownNameError: there is none.
        PluginError: what is registered is no metric.
    """
    metric = registry.create("metrics", kind)
    if not isinstance(metric, Metric):
        raise PluginError(f"metric {kind!r} is no charpy Metric", found=type(metric).__name__)
    return Measure(kind, metric, NORMS.get(kind))


def measure(by: Measure, drawn: Drawn, rest: Iterable[Piece] | None = None) -> Measured:
    """Measure all pairs of drawn images, but none of an image with itself.

    Args:
        by: the metric.
        drawn: the images.
        rest: the images among which the nearest are sought, those drawn among them; None: the drawn ones alone.

    Raises:
        DataError: the metric cannot measure such images.
    """
    parts = [_part(drawn.piece, rows) for rows in drawn.rows]
    nearest = Nearest(len(drawn.piece.ids), alike=by.alike)
    cells: list[list[Spread | None]] = [[None] * len(parts) for _ in parts]
    for a, one in enumerate(parts):
        for b, other in enumerate(parts):
            if by.norm is not None and b < a:
                continue  # symmetric
            values = by.matrix(one, other)
            cells[a][b] = spread(off_diagonal(values) if a == b else values, by.scale)
            if by.norm is not None:
                cells[b][a] = cells[a][b]
            if a == b or rest is not None:
                continue
            nearest.update(drawn.rows[a], values, other.labels.numpy(), other.ids)
            if by.norm is not None:
                nearest.update(drawn.rows[b], values.T, one.labels.numpy(), one.ids)
    if rest is not None:
        _seek(by, drawn, parts, rest, nearest)
    return Measured([[cell for cell in row if cell is not None] for row in cells], nearest)


def nearest_other(by: Measure, drawn: Drawn, rest: Iterable[Piece] | None = None) -> Nearest:
    """Of every drawn image the nearest of another class among `rest`, or among the drawn ones."""
    nearest = Nearest(len(drawn.piece.ids), alike=by.alike)
    _seek(
        by, drawn, [_part(drawn.piece, rows) for rows in drawn.rows], [drawn.piece] if rest is None else rest, nearest
    )
    return nearest


def off_diagonal(values: Floats) -> Floats:
    """`(N - 1, N)` values of a square `(N, N)`, row after row without the diagonal: a view, nothing is copied."""
    side = len(values)
    rest: Floats = values.reshape(-1)[:-1].reshape(side - 1, side + 1)[:, 1:]
    return rest


def spread(values: Floats, scale: float = 1.0) -> Spread:
    """Mean, standard deviation (of the population) and quartiles (linear between values) of those that are finite.

    Each is multiplied by `scale`. Two copies of the values are held at most: there may be many of them.
    """
    finite = values[np.isfinite(values)]
    undefined = values.size - len(finite)
    if not len(finite):
        return Spread(0, undefined, None, None, None, None, None, None, None)
    finite *= scale
    mean, deviation = float(finite.mean()), float(finite.std())
    quartiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1], overwrite_input=True).tolist()
    return Spread(len(finite), undefined, mean, deviation, *quartiles)


def _seek(by: Measure, drawn: Drawn, parts: list[Piece], rest: Iterable[Piece], nearest: Nearest) -> None:
    for piece in rest:
        for start in range(0, len(piece.ids), COLUMNS):
            some = _part(piece, slice(start, start + COLUMNS))
            for label, one, rows in zip(drawn.classes, parts, drawn.rows, strict=True):
                others = (some.labels != label).nonzero()[:, 0]
                if len(others):
                    chosen = Piece(
                        some.images[others], some.labels[others], tuple(some.ids[i] for i in others.tolist())
                    )
                    nearest.update(rows, by.matrix(one, chosen), chosen.labels.numpy(), chosen.ids)


def _part(piece: Piece, rows: slice) -> Piece:
    return Piece(piece.images[rows], piece.labels[rows], piece.ids[rows])
