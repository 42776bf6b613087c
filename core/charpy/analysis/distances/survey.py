"""From a dataset to the document of its distances, and to a level for every drawn image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from charpy.analysis.distances.document import (
    CellPart,
    ClassCount,
    DataPart,
    Distances,
    EpsSummary,
    MarkPart,
    MetricPart,
    NearestClassPart,
    NearestPart,
)
from charpy.analysis.distances.eps import ALIKE, COMBINE, THRESHOLD, Alike, Levels, Rule, combination, half
from charpy.analysis.distances.measure import (
    NORMS,
    Measure,
    Measured,
    Spread,
    measure,
    measure_of,
    nearest_other,
    spread,
)
from charpy.analysis.distances.sample import Drawn, draw, pieces
from charpy.epsfile import EpsData, EpsFile, EpsLevels, EpsSettings
from charpy.errors import SpecError
from charpy.threat import Norm

if TYPE_CHECKING:
    from charpy.interfaces.dataset import Dataset
    from charpy.plugins import Registry


@dataclass(frozen=True)
class EpsWish:
    """Which levels are to be chosen.

    Attributes:
        norm: of the levels.
        rule: `half` or `combination`.
        metric, threshold: combination: what says that two images are alike; None: `ALIKE` and `THRESHOLD`.
        combine: combination: images of each other class.
    """

    norm: Norm
    rule: Rule = "half"
    metric: str | None = None
    threshold: float | None = None
    combine: int = COMBINE


@dataclass(frozen=True)
class Wish:
    """What is to be measured.

    Attributes:
        metrics: kinds.
        per_class: images of each class, `all`, or None for the default.
        samples: instead, the images that a run of so many samples and this seed assesses.
        seed: of the draw.
        against: among which images the nearest of another class are sought: the drawn ones, or all of the dataset.
        eps: which levels, None for none.
    """

    metrics: tuple[str, ...] = tuple(NORMS)
    per_class: int | Literal["all"] | None = None
    samples: int | None = None
    seed: int = 0
    against: Literal["sample", "all"] = "sample"
    eps: EpsWish | None = None


def survey(dataset: Dataset, kind: str, wish: Wish, registry: Registry) -> tuple[Distances, EpsFile | None]:
    """Measure the dataset of this kind.

    Raises:
        CharpyError: what `draw`, a metric, or a rule refuses.
    """
    measures = [measure_of(metric, registry) for metric in dict.fromkeys(wish.metrics)]
    if not measures:
        raise SpecError("no metric is given", where="metrics", expected="one or more kinds, such as l2,ssim")
    alike = _alike(wish.eps, registry) if wish.eps is not None else None
    drawn = draw(dataset, wish.per_class, wish.seed, wish.samples)
    names = _names(dataset)
    found = [(by, measure(by, drawn, pieces(dataset) if wish.against == "all" else None)) for by in measures]
    fingerprint = dataset.fingerprint()
    chosen = None
    if wish.eps is not None:
        data = EpsData(name=dataset.name, fingerprint=fingerprint)
        levels = _levels(dataset, drawn, wish, wish.eps, alike, found, registry)
        chosen = _eps_file(data, drawn, names, wish, wish.eps, alike, levels)
    document = Distances(
        data=DataPart(
            name=dataset.name,
            kind=kind,
            samples=len(dataset),
            shape=dataset.shape,
            grid=str(dataset.grid),
            fingerprint=fingerprint,
            notes=dataset.notes,
        ),
        seed=wish.seed,
        against=wish.against,
        classes=tuple(
            ClassCount(name=names[label], label=label, drawn=rows.stop - rows.start)
            for label, rows in zip(drawn.classes, drawn.rows, strict=True)
        ),
        metrics=tuple(_metric_part(by, done, drawn, names) for by, done in found),
        eps=None if chosen is None else EpsSummary(**{name: getattr(chosen, name) for name in EpsSummary.model_fields}),
        notes=_notes(found),
    )
    return document, chosen


def _alike(eps: EpsWish, registry: Registry) -> Alike | None:
    """What the rule `combination` asks; None for the rule `half`.

    Raises:
        SpecError: options that do not go together.
    """
    if eps.rule == "half":
        if eps.metric is not None or eps.threshold is not None:
            raise SpecError("a metric and a threshold are of the rule `combination`", where="--rule", found="half")
        return None
    if eps.norm is not Norm.LINF:
        raise SpecError(
            "x0 + eps sign(x1) is bounded in linf", where="--eps-norm", found=str(eps.norm), expected="linf"
        )
    by = measure_of(eps.metric or ALIKE, registry)
    low, high = by.metric.range
    if eps.threshold is None and by.kind != ALIKE:
        raise SpecError(
            "from where on two images are alike is known for no other metric",
            where="--threshold",
            found=f"none, for {by.kind}",
            expected=f"a value of {by.kind}, {low:g}..{high:g} {by.metric.unit}",
        )
    threshold = THRESHOLD if eps.threshold is None else eps.threshold
    if not low <= threshold <= high:
        raise SpecError(
            f"{by.kind} has no such value", where="--threshold", found=threshold, expected=f"{low:g}..{high:g}"
        )
    return Alike(by, threshold)


def _levels(
    dataset: Dataset,
    drawn: Drawn,
    wish: Wish,
    eps: EpsWish,
    alike: Alike | None,
    found: list[tuple[Measure, Measured]],
    registry: Registry,
) -> Levels:
    if alike is not None:
        return combination(drawn, alike, eps.combine)
    for by, done in found:
        if by.norm is eps.norm:
            return half(done.nearest.value)
    kind = next(kind for kind, norm in NORMS.items() if norm is eps.norm)
    rest = pieces(dataset) if wish.against == "all" else None
    return half(nearest_other(measure_of(kind, registry), drawn, rest).value)


def _eps_file(
    data: EpsData,
    drawn: Drawn,
    names: dict[int, str],
    wish: Wish,
    eps: EpsWish,
    alike: Alike | None,
    levels: Levels,
) -> EpsFile:
    sizes = {rows.stop - rows.start for rows in drawn.rows}
    settings = EpsSettings(
        per_class=None if wish.per_class == "all" or wish.samples is not None else min(sizes),
        samples=wish.samples,
        seed=wish.seed,
        against=wish.against if alike is None else None,
        metric=alike.by.kind if alike else None,
        threshold=alike.threshold if alike else None,
        combine=eps.combine if alike else None,
    )
    return EpsFile(
        norm=eps.norm,
        rule=eps.rule,
        data=data,
        settings=settings,
        samples=dict(zip(drawn.piece.ids, levels.tolist(), strict=True)),
        classes={names[label]: _summary(levels[rows]) for label, rows in zip(drawn.classes, drawn.rows, strict=True)},
        all=_summary(levels),
    )


def _summary(levels: Levels) -> EpsLevels:
    q1, median, q3 = np.quantile(levels, [0.25, 0.5, 0.75]).tolist()
    least, most = int(levels.min()), int(levels.max())
    return EpsLevels(samples=len(levels), th=least, q1=q1, median=median, q3=q3, most=most)


def _metric_part(by: Measure, done: Measured, drawn: Drawn, names: dict[int, str]) -> MetricPart:
    classes = [names[label] for label in drawn.classes]
    nearest = done.nearest
    values = nearest.value * by.scale
    labels = drawn.piece.labels.tolist()
    return MetricPart(
        kind=by.kind,
        unit=by.metric.unit,
        direction=by.metric.direction.value,
        cells=tuple(
            CellPart(first=one, second=other, **_figures(done.cells[a][b]))
            for a, one in enumerate(classes)
            for b, other in enumerate(classes)
        ),
        marks=_marks(by, done, classes),
        nearest_by_class=tuple(
            NearestClassPart(name=name, **_figures(spread(values[rows])))
            for name, rows in zip(classes, drawn.rows, strict=True)
        ),
        nearest=tuple(
            NearestPart(
                id=name,
                name=names[label],
                value=float(value) if np.isfinite(value) else None,
                nearest_id=str(other_id),
                nearest=names.get(int(other), ""),
            )
            for name, label, value, other, other_id in zip(
                drawn.piece.ids, labels, values, nearest.label, nearest.ids, strict=True
            )
        ),
    )


def _figures(found: Spread) -> dict[str, Any]:
    figures = found._asdict()
    return {"count": figures.pop("pairs"), **figures}


def _marks(by: Measure, done: Measured, classes: list[str]) -> tuple[MarkPart, ...]:
    """The classes that are less alike within than to another one, the nearest other one first."""
    marks = []
    for a, name in enumerate(classes):
        within = done.cells[a][a].mean
        others = [
            (between, other)
            for b, other in enumerate(classes)
            if a != b and (between := done.cells[a][b].mean) is not None
        ]
        for between, other in sorted(others, reverse=by.alike):
            if within is not None and (between > within if by.alike else between < within):
                marks.append(MarkPart(name=name, within=within, nearer_to=other, between=between))
    return tuple(marks)


def _names(dataset: Dataset) -> dict[int, str]:
    """A distinct name for every label."""
    names = dataset.class_names
    return {label: name if names.count(name) == 1 else f"{name} ({label})" for label, name in enumerate(names)}


def _notes(found: list[tuple[Measure, Measured]]) -> tuple[str, ...]:
    notes = []
    for by, done in found:
        undefined = sum(cell.undefined for row in done.cells for cell in row)
        if undefined:
            notes.append(
                f"{by.kind} has no finite value for {undefined} pairs of images; they are left out of its figures"
            )
    return tuple(notes)
