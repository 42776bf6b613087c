"""The pairs that a page shows: the farthest that look alike, the nearest that do not, and the closest two classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.analysis.per_class import class_name
from charpy.analysis.perception.document import ExamplePart
from charpy.analysis.perception.labels import ALIKE, DIFFERENT
from charpy.analysis.perception.rates import Values
from charpy.analysis.perception.study import Measured, finite
from charpy.perception.groups import Images, Originals, PairGroup
from charpy.perception.measure import closest_of_different_classes, compared, measured


class Shown(NamedTuple):
    """An example with its two images, `(C, H, W)` in [0, 1]."""

    part: ExamplePart
    original: NDArray[Any]
    changed: NDArray[Any]


def examples(study: Measured, originals: Originals, kinds: Sequence[str], count: int) -> Iterator[Shown]:
    """`count` pairs of each look for each metric of `kinds`, at most one of an original, and the closest classes."""
    for kind in kinds:
        far = study.far(kind)
        yield from _worst(study, originals, "alike", kind, _first(study, -far, ALIKE, count))
        yield from _worst(study, originals, "different", kind, _first(study, far, DIFFERENT, count))
    yield from _closest(study, originals, kinds)


def _first(study: Measured, key: Values, look: int, count: int) -> list[int]:
    """The `count` pairs of this look with the least `key`, of each original the first; never a NaN."""
    places = np.flatnonzero((study.labels.values == look) & ~np.isnan(key))
    ordered = places[np.argsort(key[places], kind="stable")]
    _, first = np.unique(study.original_of[ordered], return_index=True)
    chosen: list[int] = ordered[np.sort(first)[:count]].tolist()
    return chosen


def _worst(
    study: Measured, originals: Originals, section: Literal["alike", "different"], kind: str, places: Sequence[int]
) -> Iterator[Shown]:
    labels = dict(zip(originals.ids, originals.labels.tolist(), strict=True))
    for place in places:
        number = next(i for i, part in enumerate(study.slices) if place < part.stop)
        group, row = study.groups[number], place - study.slices[number].start
        values = {name: finite(float(all_[place])) for name, all_ in study.values.items()}
        part = ExamplePart(
            section=section,
            metric=kind,
            pair=group.pairs[row],
            group=group.name,
            original=_class(originals, labels[group.originals[row]]),
            other="",
            values=values,
        )
        yield _shown(part, group.read(torch.tensor([row])))


def _closest(study: Measured, originals: Originals, kinds: Sequence[str]) -> Iterator[Shown]:
    for kind in kinds:
        found = closest_of_different_classes(originals, study.metrics[kind])
        if found is None:
            continue
        images = originals.images[[found.first]], originals.images[[found.second]]
        first, second = originals.ids[found.first], originals.ids[found.second]
        group = PairGroup("classes", "", (first,), (second,), lambda _, pair=images: pair)  # type: ignore[misc]
        values = {name: finite(float(value[0])) for name, value in measured([group], study.metrics).items()}
        label, other = originals.labels[found.first], originals.labels[found.second]
        part = ExamplePart(
            section="classes",
            metric=kind,
            pair=f"{first} and {second}",
            group=f"two of the first {compared(originals)} originals",
            original=_class(originals, int(label)),
            other=_class(originals, int(other)),
            values=values,
        )
        yield _shown(part, images)


def _shown(part: ExamplePart, pair: Images) -> Shown:
    return Shown(part, pair[0][0].numpy(), pair[1][0].numpy())


def _class(originals: Originals, label: int) -> str:
    return class_name(label, originals.class_names) if originals.class_names else ""
