"""The charts of a study of perception: ROC curves, both shares over a threshold, and one metric against another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from charpy.analysis.perception.document import MetricPart
from charpy.analysis.perception.study import Measured
from charpy.reports.charts import CYCLE, HEIGHT, WIDTH, as_svg
from charpy.reports.figures import number
from charpy.reports.lines import DASHES
from charpy.reports.scatter import points_svg

POINTS = 1200
"""At most so many pairs are drawn; of more, evenly chosen ones of each group."""

CORNERS = 250
"""At most so many points of a ROC curve are drawn."""

SHARE_AXIS: dict[str, Any] = {"format": "%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}


def roc_svg(parts: Sequence[MetricPart], prefix: str) -> str:
    """Of the alike over of the different let in; a dot where prior work puts its threshold."""
    import altair as alt

    rows, dots = [], []
    for place, part in enumerate(parts):
        if part.curve is None:
            continue
        points = list(zip(part.curve.let_in, part.curve.left_out, strict=True))
        for order, at in enumerate(np.unique(np.linspace(0, len(points) - 1, CORNERS).round().astype(int)).tolist()):
            let_in, left_out = points[at]
            x, y = let_in / part.curve.different, 1 - left_out / part.curve.alike
            rows.append({"metric": place, "x": x, "y": y, "order": order})
        dots += [
            {"metric": place, "x": at.let_in.value, "y": 1 - at.left_out.value}
            for at in part.thresholds
            if at.role == "usual" and at.let_in.value is not None and at.left_out.value is not None
        ]
    places = list(range(len(parts)))
    colours, dashes = ([cycle[p % len(cycle)] for p in places] for cycle in (CYCLE, DASHES))
    colour = alt.Color("metric:N", legend=None, scale=alt.Scale(domain=places, range=colours))
    dash = alt.StrokeDash("metric:N", legend=None, scale=alt.Scale(domain=places, range=dashes))
    axis, scale = alt.Axis(**SHARE_AXIS), alt.Scale(domain=[0, 1])
    x = alt.X("x:Q", title="of the pairs that look different, let in", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="of the pairs that look alike, let in", scale=scale, axis=axis)
    coin = alt.Chart(alt.InlineData(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(
        strokeDash=[2, 4], strokeWidth=1, color="#020202"
    )
    lines = alt.Chart(alt.InlineData(values=rows)).mark_line(strokeWidth=2.2)
    layers = [
        coin.encode(x=x, y=y),
        lines.encode(x=x, y=y, color=colour, strokeDash=dash, order="order:Q"),
    ]
    if dots:
        marks = alt.Chart(alt.InlineData(values=dots)).mark_point(filled=True, opacity=1, size=60)
        layers.append(marks.encode(x=x, y=y, color=colour))
    chart = alt.layer(*layers).properties(width=WIDTH, height=WIDTH * 0.8)
    said = " ".join(
        f"Line {place}: area {number(part.area.value, 3)}." for place, part in enumerate(parts, 1) if part.area
    )
    return as_svg(chart.to_dict(), prefix, f"ROC curves. {said}")


def rates_svg(part: MetricPart, prefix: str) -> str:
    """What a condition leaves out and lets in, over its threshold, with intervals; empty where there are no labels."""
    import altair as alt

    kinds = ("left out", "let in")
    rows = [
        {"at": point.threshold, "kind": kind, "value": share.value, "low": share.low, "high": share.high}
        for point in part.rates
        if point.threshold is not None
        for kind, share in zip(kinds, (point.left_out, point.let_in), strict=True)
        if share.value is not None
    ]
    if not rows:
        return ""
    colour = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=kinds, range=[CYCLE[0], CYCLE[1]]))
    dash = alt.StrokeDash("kind:N", legend=None, scale=alt.Scale(domain=kinds, range=[DASHES[0], DASHES[1]]))
    sign = "at least" if part.direction == "similarity" else "at most"
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "at:Q",
            title=f"threshold: {part.kind} {sign}" + (f", {part.unit}" if part.unit != "1" else ""),
            scale=alt.Scale(zero=False, nice=False),
            axis=alt.Axis(grid=False, tickCount=6),
        )
    )
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(**SHARE_AXIS)
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q", color=colour)
    line = base.mark_line(strokeWidth=2.2).encode(
        y=alt.Y("value:Q", title="share of pairs", scale=scale, axis=axis), color=colour, strokeDash=dash
    )
    chart = alt.layer(band, line).properties(width=WIDTH, height=HEIGHT * 0.75)
    spoken = f"Shares left out and let in over the threshold of {part.kind}; the table has figures."
    return as_svg(chart.to_dict(), prefix, spoken)


def scatter_svg(measured: Measured, x_kind: str, y_kind: str, prefix: str) -> str:
    """Every pair, or `POINTS` of them, by two metrics; a colour and a shape a group."""
    most = max(1, POINTS // max(1, len(measured.groups)))
    groups = []
    for part in measured.slices:
        x, y = measured.values[x_kind][part], measured.values[y_kind][part]
        seen = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        chosen = seen[np.unique(np.linspace(0, len(seen) - 1, most).round().astype(int))] if len(seen) else seen
        groups.append([(float(x[i]), float(y[i])) for i in chosen])

    def title(kind: str) -> str:
        unit = measured.metrics[kind].unit
        return kind if unit == "1" else f"{kind}, {unit}"

    spoken = f"Pairs by {x_kind} and {y_kind}; a colour and a shape for each group."
    return points_svg(groups, title(x_kind), title(y_kind), prefix, spoken)
