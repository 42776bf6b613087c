"""How far the images of every class are from the nearest of another class: one bar a class."""

from __future__ import annotations

from collections.abc import Sequence

from charpy.analysis.distances.document import MetricPart
from charpy.reports.charts import CYCLE, WIDTH, as_svg
from charpy.reports.distances_view import figure

BAR = 22
"""Height of a class in the chart."""


def nearest_svg(part: MetricPart, labels: Sequence[int], prefix: str) -> str:
    """Least to largest value as a thin line, the middle half as a bar, the median as a tick; classes by
    their numbers, `labels`. Empty where there is nothing to draw; `prefix` keeps the ids of a page apart.
    """
    import altair as alt

    # A name may come from anywhere: the renderer is given numbers only.
    rows = [
        {"label": label, "least": one.least, "q1": one.q1, "median": one.median, "q3": one.q3, "most": one.most}
        for label, one in zip(labels, part.nearest_by_class, strict=True)
        if one.count
    ]
    if not rows:
        return ""
    colour = CYCLE[0]
    y = alt.Y("label:O", title="class", axis=alt.Axis(labelAngle=0, ticks=False, domain=False))
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y)
    scale = alt.Scale(zero=part.direction == "distance", nice=True)
    title = f"{part.kind} of the nearest image of another class, {part.unit}"
    x = alt.X("least:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    chart = alt.layer(
        base.mark_rule(color=colour, strokeWidth=1.5).encode(x=x, x2="most:Q"),
        base.mark_bar(color=colour, opacity=0.45, height=BAR * 0.55).encode(x="q1:Q", x2="q3:Q"),
        base.mark_tick(color=colour, thickness=3, size=BAR * 0.75).encode(x="median:Q"),
    ).properties(width=WIDTH, height=BAR * len(rows))
    spoken = "; ".join(f"class {row['label']}: median {figure(row['median'])}" for row in rows)
    return as_svg(chart.to_dict(), prefix, f"Value of the nearest image of another class. {spoken}.")
