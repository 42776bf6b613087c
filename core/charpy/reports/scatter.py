"""Points of several groups on two axes; a colour and a shape a group, which the page's legend shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from charpy.analysis.document import ScatterPart
from charpy.reports import norms
from charpy.reports.charts import CYCLE, HEIGHT, WIDTH, as_svg

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")


_PATHS = {
    "circle": "M7,2 a5,5 0 1 0 0.01,0 z",
    "square": "M2.5,2.5 h9 v9 h-9 z",
    "triangle-up": "M7,2 L12,11.5 H2 z",
    "diamond": "M7,1 L11,7 L7,13 L3,7 z",
    "cross": "M5.4,2 h3.2 v3.4 h3.4 v3.2 h-3.4 v3.4 h-3.2 v-3.4 h-3.4 v-3.2 h3.4 z",
    "triangle-down": "M7,12 L12,2.5 H2 z",
    "triangle-right": "M12,7 L2.5,12 V2 z",
    "triangle-left": "M2,7 L11.5,12 V2 z",
}
"""The symbols of the chart, as its legend draws them."""


class Mark(NamedTuple):
    """An entry of the legend: what it names, the number of its colour, the path of its symbol."""

    name: str
    colour: int
    path: str


def mark(name: str, group: int) -> Mark:
    """Of the group of this number, from 0; its colour is number 1..8."""
    colour, shape = mark_of(group)
    return Mark(name, colour + 1, _PATHS[shape])


def mark_of(group: int) -> tuple[int, str]:
    """Colour 0..7 and shape of the group of this number; both repeat together only after 64."""
    return group % len(CYCLE), SHAPES[(group + group // len(SHAPES)) % len(SHAPES)]


def points_svg(
    groups: Sequence[Sequence[tuple[float, float]]], x_title: str, y_title: str, prefix: str, spoken: str
) -> str:
    """The chart of `groups` of `(x, y)`; empty where there is no point. `prefix` keeps the ids of a page apart."""
    import altair as alt

    # A name may come from anywhere: the renderer is given numbers only.
    rows: list[dict[str, Any]] = [
        {"group": place, "x": round(x, 5), "y": round(y, 5)} for place, group in enumerate(groups) for x, y in group
    ]
    if not rows:
        return ""
    places = list(range(len(groups)))
    marks = [mark_of(place) for place in places]
    colours, shapes = [CYCLE[colour] for colour, _ in marks], [shape for _, shape in marks]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=False, opacity=0.8, size=22, strokeWidth=1.1)
        .encode(
            x=alt.X("x:Q", title=x_title, scale=alt.Scale(zero=False), axis=alt.Axis(grid=False)),
            y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False)),
            color=alt.Color("group:N", legend=None, scale=alt.Scale(domain=places, range=colours)),
            shape=alt.Shape("group:N", legend=None, scale=alt.Scale(domain=places, range=shapes)),
        )
        .properties(width=WIDTH, height=HEIGHT * 1.2)
    )
    return as_svg(chart.to_dict(), prefix, spoken)


class Scatter(NamedTuple):
    """One metric against one norm: the chart and its legend."""

    title: str
    marks: tuple[Mark, ...]
    chart: str


def scatter_view(parts: Sequence[ScatterPart], prefix: str) -> tuple[Scatter, ...]:
    """A chart for each metric and norm of `parts`; `prefix` keeps the ids of a page apart."""
    charts = []
    for place, (metric, norm) in enumerate(dict.fromkeys((part.metric, part.norm) for part in parts)):
        own = [part for part in parts if (part.metric, part.norm) == (metric, norm)]
        spoken = f"Witnesses under {norms.short(norm)} by distance and metric; a colour and a shape for each attack."
        points = [part.points for part in own]
        chart = points_svg(points, f"distance, {norms.name(norm)}", "metric", f"{prefix}-scatter-{place}", spoken)
        marks = tuple(mark(part.attack, group) for group, part in enumerate(own))
        charts.append(Scatter(f"{metric} against {norms.name(norm)}", marks, chart))
    return tuple(charts)
