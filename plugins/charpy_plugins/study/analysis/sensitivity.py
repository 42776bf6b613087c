"""Do the conclusions depend on who was excluded? The main figures again, over everybody who finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charpy_plugins.study.analysis.comparisons import compared
from charpy_plugins.study.analysis.document import (
    ComparisonPart,
    SensitivityComparison,
    SensitivityPart,
    SensitivityRow,
    SettingsPart,
    Subset,
)
from charpy_plugins.study.analysis.intervals import mean_figure
from charpy_plugins.study.analysis.trials import Trials


def sensitivity(
    included: Mapping[str, Trials],
    finished: Mapping[str, Trials],
    comparisons: Sequence[ComparisonPart],
    settings: SettingsPart,
) -> SensitivityPart:
    """Both choices of participants side by side.

    Args:
        included: by condition, after the rules of the study.
        finished: all who finished with an answer.
        comparisons: of the included.
        settings: alpha, margins, draws, seed.
    """
    again = compared(finished, settings, fit=False)
    changed = [
        _words(before, after) for before, after in zip(comparisons, again, strict=True) if _differs(before, after)
    ]
    return SensitivityPart(
        rows=(*_rows("included", included), *_rows("finished", finished)),
        comparisons=(
            *(_comparison("included", one) for one in comparisons),
            *(_comparison("finished", one) for one in again),
        ),
        changed=tuple(changed),
    )


def _rows(subset: Subset, arms: Mapping[str, Trials]) -> list[SensitivityRow]:
    return [
        SensitivityRow(
            subset=subset,
            condition=name,
            participants=len(trials.participants),
            accuracy=mean_figure(trials.means("accuracy"), 0.0, 1.0),
            confidence=mean_figure(trials.means("confidence"), 1.0, 5.0),
        )
        for name, trials in arms.items()
    ]


def _comparison(subset: Subset, one: ComparisonPart) -> SensitivityComparison:
    test = one.primary
    return SensitivityComparison(
        subset=subset,
        measure=one.measure,
        first=one.first,
        second=one.second,
        estimate=test.estimate,
        p_holm=test.p_holm,
        significant=test.significant,
        reason=test.reason,
    )


def _differs(before: ComparisonPart, after: ComparisonPart) -> bool:
    return before.primary.significant != after.primary.significant


def _words(before: ComparisonPart, after: ComparisonPart) -> str:
    said = {True: "significant", False: "not significant", None: "not testable"}
    return (
        f"{before.measure}, {before.second} against {before.first}: {said[before.primary.significant]} as included, "
        f"{said[after.primary.significant]} over everybody who finished"
    )
