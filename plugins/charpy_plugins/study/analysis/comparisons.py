"""Every pair of conditions, by accuracy and by confidence: the paper's test, the primary one, and those beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from charpy_plugins.study.analysis import differences, models
from charpy_plugins.study.analysis.differences import Tested
from charpy_plugins.study.analysis.document import (
    ComparisonPart,
    EquivalencePart,
    Measure,
    Method,
    SettingsPart,
    SignificancePart,
)
from charpy_plugins.study.analysis.models import Fitted
from charpy_plugins.study.analysis.trials import Trials

MEASURES: tuple[Measure, ...] = ("accuracy", "confidence")
PRIMARY: Method = "permutation"
PAPER: Method = "student"
POINTS = {"accuracy": "share correct", "confidence": "points of 1 to 5"}
FEW = "fewer than two participants in a condition"
FLAT = "no spread to test against: all averages of a condition are the same"


class About(NamedTuple):
    """What a reader has to know of a test; levels are those of benchmarks/results/study_errors.md."""

    title: str
    unit: str
    note: str


ABOUT: Mapping[str, About] = {
    "student": About(
        "Student's t test, as in the paper",
        "participant",
        "uncorrected; the paper says only `a t-test`: taken as two-sided, of participants' averages and one variance",
    ),
    "permutation": About(
        "Permutation test of Welch's t",
        "participant",
        "about these images: it takes participants as a sample of more, images as they are",
    ),
    "welch": About(
        "Welch's t test", "participant", "about these images; rejects too often when one condition has few participants"
    ),
    "crossed": About(
        "t test clustered by participants and originals",
        "participant and original",
        "about people and images like these; takes both as samples of more",
    ),
    "mixed": About(
        "Linear mixed model with crossed random effects", "answer, within participant and original", "Wald's z, REML"
    ),
    "ordinal": About(
        "Proportional-odds model, clustered by participants",
        "answer, within participant",
        "Wald's z of the log odds of a higher confidence; about these images",
    ),
    "images": About(
        "Paired t test by original",
        "original",
        "about these participants: it does not know that participants differ, so it says nothing of other people, "
        "and rejects far too often when taken to",
    ),
}


def compared(arms: Mapping[str, Trials], settings: SettingsPart, *, fit: bool = True) -> tuple[ComparisonPart, ...]:
    """Accuracy, then confidence, of every pair of conditions in their order, after Holm over the pairs.

    Args:
        arms: by condition.
        settings: alpha, margins, draws, seed.
        fit: the models too, which take seconds a pair.
    """
    found = []
    for measure in MEASURES:
        pairs = list(combinations(arms, 2))
        rows = [_tests(arms[a], arms[b], measure, settings, fit) for a, b in pairs]
        equal = [_equivalence(arms[a], arms[b], measure, settings) for a, b in pairs]
        for at in range(len(rows[0]) if rows else 0):
            for row, adjusted in zip(rows, holm([row[at].p for row in rows]), strict=True):
                row[at] = _judged(row[at], adjusted, settings.alpha)
        for (a, b), row, same, adjusted in zip(pairs, rows, equal, holm([one.p for one in equal]), strict=True):
            judged = None if adjusted is None else adjusted < settings.alpha
            same = same.model_copy(update={"p_holm": adjusted, "equivalent": judged})
            found.append(ComparisonPart(measure=measure, first=a, second=b, tests=tuple(row), equivalence=same))
    return tuple(found)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (Holm 1979) over those that are there: (m - rank) p, from the smallest up, never falling."""
    adjusted = list(values)
    floor = 0.0
    there = sorted((value, at) for at, value in enumerate(values) if value is not None)
    for rank, (value, at) in enumerate(there):
        floor = max(floor, min(1.0, (len(there) - rank) * value))
        adjusted[at] = floor
    return adjusted


def _judged(test: SignificancePart, adjusted: float | None, alpha: float) -> SignificancePart:
    p = test.p if test.role == "paper" else adjusted
    holm_p = None if test.role == "paper" else adjusted
    return test.model_copy(update={"p_holm": holm_p, "significant": None if p is None else p < alpha})


def _tests(
    first: Trials, second: Trials, measure: Measure, settings: SettingsPart, fit: bool
) -> list[SignificancePart]:
    tables = first.table(measure), second.table(measure)
    few = FEW if min(len(first.participants), len(second.participants)) < 2 else ""
    shared = np.intersect1d(first.original, second.original)
    unmatched = "fewer than two originals that both conditions show" if len(shared) < 2 else ""
    scale = POINTS[measure]

    def by_people(method: Method, test: Callable[..., Tested], *more: int) -> SignificancePart:
        if few:
            return _absent(method, scale, few)
        return _part(method, scale, test(tables[0].participants(), tables[1].participants(), *more))

    parts = [
        by_people("student", differences.student),
        by_people("permutation", differences.permutation, settings.draws, settings.seed),
        by_people("welch", differences.welch),
        _absent("crossed", scale, few) if few else _part("crossed", scale, differences.crossed(*tables)),
    ]
    if fit and measure == "accuracy":
        parts.append(_fitted("mixed", scale, _absent_fit(few) or models.mixed(first, second)))
    if fit and measure == "confidence":
        parts.append(_fitted("ordinal", "log odds", _absent_fit(few) or models.ordinal(first, second)))
    by_image = _absent("images", scale, unmatched) if unmatched else _part("images", scale, differences.images(*tables))
    return [*parts, by_image]


def _equivalence(first: Trials, second: Trials, measure: Measure, settings: SettingsPart) -> EquivalencePart:
    margin = settings.margin if measure == "accuracy" else settings.confidence_margin
    few = min(len(first.participants), len(second.participants)) < 2
    one = None if few else differences.tost(first.means(measure), second.means(measure), margin, settings.alpha)
    p = None if one is None else _known(one.p)
    return EquivalencePart(
        margin=margin,
        low=None if one is None else _known(one.low),
        high=None if one is None else _known(one.high),
        p=p,
        p_holm=None,
        equivalent=None,
        unit="participant",
        reason="" if p is not None else FEW if few else FLAT,
    )


def _part(method: Method, scale: str, one: Tested) -> SignificancePart:
    p = _known(one.p)
    return _absent(method, scale, "" if p is not None else FLAT).model_copy(
        update={
            "estimate": _known(one.estimate),
            "low": _known(one.low),
            "high": _known(one.high),
            "statistic": _known(one.statistic),
            "df": None if method == "permutation" or p is None else _known(one.df),
            "p": p,
        }
    )


def _fitted(method: Method, scale: str, one: Fitted) -> SignificancePart:
    part = _absent(method, scale, one.reason)
    if one.estimate is None or one.error is None:
        return part
    half = 1.959963984540054 * one.error
    return part.model_copy(
        update={
            "estimate": one.estimate,
            "low": one.estimate - half,
            "high": one.estimate + half,
            "statistic": one.estimate / one.error,
            "p": one.p,
            "note": f"{part.note}; {one.note}",
        }
    )


def _absent(method: Method, scale: str, reason: str) -> SignificancePart:
    about = ABOUT[method]
    return SignificancePart(
        method=method,
        title=about.title,
        role="paper" if method == PAPER else "primary" if method == PRIMARY else "beside",
        unit=about.unit,
        scale=scale,
        estimate=None,
        low=None,
        high=None,
        statistic=None,
        df=None,
        p=None,
        p_holm=None,
        significant=None,
        reason=reason,
        note=about.note,
    )


def _absent_fit(reason: str) -> Fitted | None:
    return Fitted(None, None, None, reason) if reason else None


def _known(value: object) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None
