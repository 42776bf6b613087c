"""The operating characteristics of a contest: share of images broken within a distortion, one line an attack."""

from __future__ import annotations

from collections.abc import Sequence

from charpy.analysis.document import CharacteristicPart
from charpy.reports import norms
from charpy.reports.charts import CYCLE, HEIGHT, WIDTH, as_svg
from charpy.reports.figures import number, percent
from charpy.reports.lines import DASHES
from charpy.threat import Norm

WHOLE = 255
"""Distances are on the 0..255 scale; the axis has image values."""


def distance_title(distance: str) -> str:
    """What an axis or a column of distortions is."""
    if distance == Norm.L0:
        return "changed pixels"
    return f"{norms.short(distance)} distance, image values in 0..1"


def image_values(distance: str, value: float) -> float:
    """A distortion in the unit of `distance_title`."""
    return value if distance == Norm.L0 else value / WHOLE


def characteristic_svg(parts: Sequence[CharacteristicPart], prefix: str) -> str:
    """P(D) of every part as steps (Zhang et al. 2019, Figure 2); empty where nothing was broken.

    Args:
        parts: of one distance.
        prefix: keeps the ids of a page apart.
    """
    import altair as alt

    distance = parts[0].distance
    last = max((image_values(distance, part.largest) for part in parts if part.largest is not None), default=0.0)
    if not last:
        return ""
    rows = []
    for place, part in enumerate(parts):
        steps = [(0.0, 0.0), *((image_values(distance, size), value) for size, value in part.curve)]
        steps.append((last, steps[-1][1]))
        # A name may come from anywhere: the renderer is given numbers only.
        rows += [{"attack": place, "size": size, "value": value} for size, value in steps]
    places = list(range(len(parts)))
    colours, dashes = ([cycle[p % len(cycle)] for p in places] for cycle in (CYCLE, DASHES))
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2.2, interpolate="step-after")
        .encode(
            x=alt.X(
                "size:Q",
                title=distance_title(distance),
                scale=alt.Scale(domain=[0, last], nice=False),
                axis=alt.Axis(grid=False, labelFlush=False, tickCount=8),
            ),
            y=alt.Y(
                "value:Q",
                title="broken, of correctly classified",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
            ),
            color=alt.Color("attack:N", legend=None, scale=alt.Scale(domain=places, range=colours)),
            strokeDash=alt.StrokeDash("attack:N", legend=None, scale=alt.Scale(domain=places, range=dashes)),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return as_svg(chart.to_dict(), prefix, f"Share broken within a distortion. {_spoken(parts)}")


def _spoken(parts: Sequence[CharacteristicPart]) -> str:
    """Attacks by number, as in the legend."""
    return " ".join(
        f"Line {place}: {percent(part.success.value)}, mean distortion "
        f"{number(None if part.mean is None else image_values(part.distance, part.mean), 2)}."
        for place, part in enumerate(parts, 1)
    )
