"""The charts of an analysis: accuracy as in the paper's Figure 3, confidence, participants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from charpy.analysis.document import Share
from charpy.reports.charts import CYCLE, HEIGHT, WIDTH, as_svg
from charpy.reports.figures import percent
from charpy.reports.inert import visible
from charpy.reports.lines import DASHES
from charpy_plugins.study.analysis.document import ConditionPart, Figure
from charpy_plugins.study.pages.figures import points

KINDS = ("average", "majority vote")
_TEXT, _MUTED = "#010101", "#020202"
_SHARES: dict[str, Any] = {"format": "%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}


def accuracy_svg(conditions: Sequence[ConditionPart], prefix: str) -> str:
    """Two bars a condition, users' average and majority vote, with 95 % intervals; empty without answers."""
    import altair as alt

    rows = []
    for place, part in enumerate(conditions):
        figures: tuple[Figure | Share, ...] = (part.accuracy, part.majority.share)
        for kind, figure in zip(KINDS, figures, strict=True):
            if figure.value is not None:
                rows.append({"condition": _name(part, place), "kind": kind, "value": figure.value,
                             "low": figure.low, "high": figure.high, "text": percent(figure.value)})  # fmt: skip
    if not rows:
        return ""
    domain = [_name(part, place) for place, part in enumerate(conditions)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("condition:N", title=None, scale=alt.Scale(domain=domain, paddingInner=0.25),
                axis=alt.Axis(labelAngle=0, labelLimit=150, labelFontSize=14, ticks=False)),
        xOffset=alt.XOffset("kind:N", scale=alt.Scale(domain=KINDS, paddingInner=0.08)),
    )  # fmt: skip
    scale, axis = alt.Scale(domain=[0, 1.12], nice=False), alt.Axis(**_SHARES)
    bars = base.mark_bar().encode(
        y=alt.Y("value:Q", title="labelled correctly", scale=scale, axis=axis),
        color=alt.Color("kind:N", legend=None, scale=alt.Scale(domain=KINDS, range=[CYCLE[0], CYCLE[7]])),
    )
    whole = [row for row in rows if row["low"] is not None and row["high"] is not None]
    lines = base.properties(data=alt.InlineData(values=whole)).mark_rule(strokeWidth=2, color=_TEXT)
    numbers = base.transform_calculate(top="datum.high === null ? datum.value : max(datum.high, datum.value)")
    layers = [
        bars,
        lines.encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q"),
        numbers.mark_text(dy=-9, fontSize=13, color=_TEXT).encode(y=alt.Y("top:Q", scale=scale), text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    said = "; ".join(
        f"condition {place + 1}: average {percent(part.accuracy.value)}, majority {percent(part.majority.share.value)}"
        for place, part in enumerate(conditions)
    )
    return as_svg(chart.to_dict(), prefix, f"Accuracy by condition. {said}.")


def confidence_svg(conditions: Sequence[ConditionPart], prefix: str) -> str:
    """Share of answers by confidence 1 to 5, a line a condition; empty without answers."""
    import altair as alt

    rows = [
        {"condition": place, "confidence": level, "share": count / sum(part.confidence_counts)}
        for place, part in enumerate(conditions)
        for level, count in enumerate(part.confidence_counts, 1)
        if sum(part.confidence_counts)
    ]
    if not rows:
        return ""
    places = list(range(len(conditions)))
    colours, dashes = ([cycle[place % len(cycle)] for place in places] for cycle in (CYCLE, DASHES))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("confidence:Q", title="confidence of an answer", scale=alt.Scale(domain=[1, 5], nice=False),
                axis=alt.Axis(values=[1, 2, 3, 4, 5], format="d", grid=False)),
        y=alt.Y("share:Q", title="share of answers", scale=alt.Scale(domainMin=0),
                axis=alt.Axis(format="%", tickCount=5)),
        color=alt.Color("condition:N", legend=None, scale=alt.Scale(domain=places, range=colours)),
    )  # fmt: skip
    dash = alt.StrokeDash("condition:N", legend=None, scale=alt.Scale(domain=places, range=dashes))
    chart = alt.layer(
        base.mark_line(strokeWidth=2.2).encode(strokeDash=dash), base.mark_point(filled=True, opacity=1, size=60)
    ).properties(width=WIDTH, height=HEIGHT)
    said = "; ".join(
        f"condition {place + 1}: mean {points(part.confidence.value)}" for place, part in enumerate(conditions)
    )
    return as_svg(chart.to_dict(), prefix, f"Share of answers by confidence. {said}.")


def people_svg(conditions: Sequence[ConditionPart], prefix: str) -> str:
    """Every participant by accuracy, a disc for those of one accuracy; empty without participants."""
    import altair as alt

    rows = [
        {"condition": _name(part, place), "accuracy": accuracy, "people": count}
        for place, part in enumerate(conditions)
        for accuracy, count in Counter(round(value, 3) for value in part.participant_accuracies).items()
    ]
    if not rows:
        return ""
    means = [
        {"condition": _name(part, place), "accuracy": part.accuracy.value}
        for place, part in enumerate(conditions)
        if part.accuracy.value is not None
    ]
    domain = [_name(part, place) for place, part in enumerate(conditions)]
    y = alt.Y(
        "condition:N",
        title=None,
        scale=alt.Scale(domain=domain),
        axis=alt.Axis(labelLimit=130, ticks=False, domain=False),
    )
    x = alt.X("accuracy:Q", title="a participant's share of correct answers", axis=alt.Axis(**_SHARES, grid=False),
              scale=alt.Scale(domain=[-0.05, 1.05], nice=False))  # fmt: skip
    most = max(row["people"] for row in rows if isinstance(row["people"], int))
    discs = alt.Chart(alt.InlineData(values=rows)).mark_circle(opacity=0.75, color=CYCLE[0])
    size = alt.Size("people:Q", legend=None, scale=alt.Scale(domain=[0, most], range=[0, min(700, 60 * most)]))
    ticks = alt.Chart(alt.InlineData(values=means)).mark_tick(thickness=3, size=38, color=_TEXT)
    chart = alt.layer(discs.encode(x=x, y=y, size=size), ticks.encode(x=x, y=y))
    room = {"left": 60, "right": 10, "top": 4, "bottom": 4}  # a small screen has larger letters
    chart = chart.properties(width=WIDTH, height=max(60, 62 * len(domain)), padding=room)
    return as_svg(chart.to_dict(), prefix, "Participants by their share of correct answers; a tick at each mean.")


def _name(part: ConditionPart, place: int) -> str:
    return visible(part.name) or f"condition {place + 1}"
