"""The curves of a comparison: one chart a norm, one line a model, colours taken from the page."""

from __future__ import annotations

from collections.abc import Sequence

from charpy.analysis.comparison.document import CurvePart
from charpy.reports import norms
from charpy.reports.charts import CYCLE, HEIGHT, LONG, LONG_AXIS, WIDTH, as_svg
from charpy.reports.figures import percent
from charpy.reports.lines import DASHES
from charpy.threat import LAST_LEVEL


def comparison_svg(curves: Sequence[CurvePart], prefix: str) -> str:
    """Adversarial accuracy over th of every curve, all of one norm; `prefix` keeps the ids of a page apart."""
    import altair as alt

    norm = curves[0].norm
    last = max(point.th for curve in curves for point in curve.points)
    long = last > LONG
    marks = not any(curve.searched for curve in curves)
    # A title may come from anywhere: the renderer is given numbers only.
    rows = [{"model": place, "th": 0, "value": 0.0} for place in range(len(curves))]
    rows += [
        {"model": place, "th": point.th, "value": point.broken.value}
        for place, curve in enumerate(curves)
        for point in curve.points
        if point.broken.value is not None
    ]
    ticks = [*LONG_AXIS[1:]] if last <= LAST_LEVEL else [10**power for power in range(len(str(last)))]
    places = list(range(len(curves)))
    colour = alt.Color(
        "model:N", legend=None, scale=alt.Scale(domain=places, range=[CYCLE[p % len(CYCLE)] for p in places])
    )
    dash = alt.StrokeDash(
        "model:N", legend=None, scale=alt.Scale(domain=places, range=[DASHES[p % len(DASHES)] for p in places])
    )
    base = alt.Chart().encode(
        x=alt.X(
            "th:Q",
            title=f"th, {norms.name(norm)}",
            scale=alt.Scale(type="symlog" if long else "linear", domain=[0, last], nice=False),
            axis=alt.Axis(values=[0, *(tick for tick in ticks if tick <= last)], format="d", grid=False),
        ),
        y=alt.Y(
            "value:Q",
            title="adversarial accuracy",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
        ),
    )
    layers = [base.mark_line(strokeWidth=2.5).encode(color=colour, strokeDash=dash)]
    if marks:
        layers.append(base.mark_point(filled=True, opacity=1, size=55).encode(color=colour))
    chart = alt.layer(*layers, data=alt.InlineData(values=rows)).properties(width=WIDTH, height=HEIGHT)
    return as_svg(chart.to_dict(), prefix, f"Adversarial accuracy by level. {_spoken(curves)}")


def _spoken(curves: Sequence[CurvePart]) -> str:
    """The ends of each curve; models by number, as in the legend."""
    return " ".join(
        f"Line {place}: {percent(curve.points[0].broken.value)} at th {curve.points[0].th}, "
        f"{percent(curve.points[-1].broken.value)} at th {curve.points[-1].th}."
        for place, curve in enumerate(curves, 1)
    )
