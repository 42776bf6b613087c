"""A whole study: pairs in, document out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from charpy.analysis.perception.document import Perception
from charpy.analysis.perception.examples import Shown, examples
from charpy.analysis.perception.labels import ALIKE, DIFFERENT, UNKNOWN, Labels
from charpy.analysis.perception.study import Measured, group_parts, metric_parts, verdict
from charpy.errors import SpecError, unknown_name
from charpy.interfaces.metric import Metric
from charpy.perception.groups import Originals, PairGroup
from charpy.perception.measure import measured

LARGE, FEW, MANY = 96, 2, 6
"""Of images with a longer side than the first, `FEW` pairs are shown for each metric and look; of others `MANY`."""

INDEPENDENT = (
    "The intervals of shares take the pairs as independent, which those of one original are not quite; those of the "
    "areas know which pairs share an original"
)


class Study(NamedTuple):
    """A document, its pictures, and what it was made from."""

    document: Perception
    shown: tuple[Shown, ...]
    measured: Measured


def perceive(
    originals: Originals,
    groups: Sequence[PairGroup],
    metrics: Mapping[str, Metric],
    labels: Labels,
    *,
    leads: Sequence[str],
    left_out: Mapping[str, str] | None = None,
    runs: Sequence[str] = (),
    notes: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Study:
    """Measure every pair by every metric, and say what a condition on each leaves out and lets in.

    Args:
        originals: where the pairs come from.
        groups: all pairs.
        metrics: by kind.
        labels: of the pairs of `groups`, in order.
        leads: kinds of the metrics by which pairs are chosen to be shown.
        left_out: metrics that cannot measure these images, and why.
        runs, notes, settings: for the reader.

    Raises:
        UnknownNameError: a lead that is not among the metrics.
        SpecError: there are no pairs.
    """
    if not groups:
        raise SpecError("there are no pairs", where="charpy perceive", expected="at least one group of pairs")
    for kind in leads:
        if kind not in metrics:
            raise unknown_name("metric", kind, metrics, hint="these are the metrics of this study")
    found = Measured(groups, metrics, measured(groups, metrics), labels)
    count = FEW if max(originals.shape[1:]) > LARGE else MANY
    shown = tuple(examples(found, originals, leads, count))
    parts = metric_parts(found, originals.shape)
    document = Perception(
        name="Does near mean alike?",
        data=originals.name,
        shape=originals.shape,
        originals=len(originals.ids),
        runs=tuple(runs),
        labels=labels.source,
        proxy=labels.text,
        verdict=verdict(parts, labels.source),
        alike=int((labels.values == ALIKE).sum()),
        different=int((labels.values == DIFFERENT).sum()),
        unlabelled=int((labels.values == UNKNOWN).sum()),
        groups=group_parts(found),
        metrics=parts,
        left_out=dict(left_out or {}),
        examples=tuple(item.part for item in shown),
        notes=(*labels.notes, *notes, INDEPENDENT),
        settings=dict(settings or {}),
    )
    return Study(document, shown, found)


def pairs_csv(study: Measured) -> bytes:
    """Every pair with its group, label and values, as CSV: what a study of people can answer, by the column `pair`."""
    import csv
    import io

    words = {ALIKE: "alike", DIFFERENT: "different", UNKNOWN: ""}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["pair", "original", "changed", "group", "label", *study.metrics])
    for group, place in zip(study.groups, study.slices, strict=True):
        labels = [words[label] for label in study.labels.values[place].tolist()]
        columns = [[f"{value:.7g}" for value in values[place].tolist()] for values in study.values.values()]
        named = (group.pairs, group.originals, group.changed, [group.name] * len(group), labels)
        writer.writerows(zip(*named, *columns, strict=True))
    return buffer.getvalue().encode("utf-8", errors="backslashreplace")
