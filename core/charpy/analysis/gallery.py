"""Which witnesses to show, and their images read from the run file only then."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.findings import Population
from charpy.analysis.per_class import class_name
from charpy.pixels import distances, unpack
from charpy.records import WitnessRow
from charpy.runfile import RunFile
from charpy.threat import DISTANCE_TOLERANCE, Grid, Norm


class Candidate(NamedTuple):
    """A sample that has a witness: its class and the distance of its nearest one."""

    sample: int
    label: int
    distance: float


@dataclass(frozen=True, eq=False)
class GalleryItem:
    """A witness beside its original.

    Attributes:
        original, witness: `(C, H, W)`, uint8 on the grid or float32 in [0, 1] off it.
        distance: pixels or 1/255 steps.
        l2: on the 0..255 scale, as the paper gives it.
        level: the smallest assessed level that contains the distance.
        queries: rows that the attack spent until this witness, None where it was not counted.
    """

    sample: int
    id: str
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    norm: str
    level: int
    distance: float
    l2: float
    queries: int | None
    attack: str
    original: NDArray[Any]
    witness: NDArray[Any]


def choose(candidates: Sequence[Candidate], levels: Sequence[int], limit: int) -> list[int]:
    """At most `limit` samples, spread over levels, and within a level over classes; deterministic.

    Levels take turns. Each takes a sample of the class that was taken least often so far, then of the smallest label,
    then the smallest sample.
    """
    waiting: defaultdict[int, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates):
        waiting[_level(candidate.distance, levels)].append(candidate)
    shown: Counter[int] = Counter()
    chosen: list[int] = []
    while len(chosen) < limit and any(waiting.values()):
        for th in sorted(waiting):
            if waiting[th] and len(chosen) < limit:
                best = min(waiting[th], key=lambda c: (shown[c.label], c.label, c.sample))
                waiting[th].remove(best)
                shown[best.label] += 1
                chosen.append(best.sample)
    return chosen


def read_gallery(
    run: RunFile, model: int, norm: str, limit: int, *, levels: Sequence[int], dataset: Mapping[str, Any], grid: Grid
) -> list[GalleryItem]:
    """The nearest witness of each chosen sample under `norm`, by level, class and sample.

    Only the chosen images are kept; the others are passed over in the file.
    """
    rows = {row.sample: row for row in run.samples(model)}
    population = Population.of(list(rows.values()))
    nearest: dict[int, float] = {}
    for sample, _, distance in run.witness_distances(model, norm):
        if population.correct[population.position[sample]]:
            nearest[sample] = min(distance, nearest.get(sample, distance))
    chosen = set(choose([Candidate(s, rows[s].label, d) for s, d in nearest.items()], levels, limit))
    if not chosen:
        return []
    names, shape = tuple(dataset["class_names"]), tuple(dataset["shape"])
    items = []
    for witness in run.witnesses(model, norm, smallest=True):
        if witness.sample in chosen:
            row = rows[witness.sample]
            images = _images(run, witness, shape, grid)
            items.append(_item(witness, row.id, row.label, names, _level(witness.distance, levels), images))
    return sorted(items, key=lambda item: (item.level, item.label, item.sample))


def _images(run: RunFile, witness: WitnessRow, shape: Any, grid: Grid) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Original, witness, and their L2 distance on the 0..255 scale."""
    original, perturbed = unpack(run.original(witness.sample), shape, grid), unpack(witness.image, shape, grid)
    l2 = float(distances(Norm.L2, original[None], perturbed[None])[0])
    return np.asarray(original), np.asarray(perturbed), l2


def _item(
    witness: WitnessRow,
    sample_id: str,
    label: int,
    names: Sequence[str],
    level: int,
    images: tuple[NDArray[Any], NDArray[Any], float],
) -> GalleryItem:
    original, perturbed, l2 = images
    return GalleryItem(
        sample=witness.sample,
        id=sample_id,
        label=label,
        label_name=class_name(label, names),
        predicted=witness.prediction,
        predicted_name=class_name(witness.prediction, names),
        norm=witness.norm,
        level=level,
        distance=witness.distance,
        l2=l2,
        queries=witness.queries_to_success,
        attack=witness.attack,
        original=original,
        witness=perturbed,
    )


def _level(distance: float, levels: Sequence[int]) -> int:
    """The smallest of `levels` that contains `distance`; the largest when none does."""
    return next((th for th in levels if distance <= th + DISTANCE_TOLERANCE), levels[-1])
