"""The charts of the report: static SVG that takes its colours from the page, so it follows light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from charpy.analysis.document import AgreementPart, Assessment, MinimalPart, ThreatPart
from charpy.analysis.intervals import clopper_pearson
from charpy.checks import largest_level
from charpy.reports import norms
from charpy.threat import BALLS, DUAL, FIRST_LEVEL, LAST_LEVEL, OWN, Norm

if TYPE_CHECKING:
    import altair as alt

WIDTH, HEIGHT = 470, 270
LONG_AXIS = (0, 1, 3, 5, 10, 30, 127)
LONG = 20
"""An axis of the dual levels that is longer than this is logarithmic."""

FEW = 8
"""As many levels as this, at most, are each a tick and a mark, however long their axis."""

DRAWN = 256
"""Of a range longer than 1..127, about so many levels are drawn, evenly spaced on a logarithmic axis."""

# The renderer wants real colours, so each role has a stand-in that is replaced by the page's custom property.
_ROLES = {
    "#010101": "var(--text)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--l0)",
    "#050505": "var(--linf)",
    "#060606": "var(--both)",
    "#070707": "var(--neither)",
    "#080808": "var(--on-colour)",
    "#090909": "var(--l1)",
    "#0a0a0a": "var(--l2)",
    **{f"#0b0b{number:02x}": f"var(--c{number})" for number in range(1, 9)},
}
_TEXT, _MUTED, _LINE, _L0, _LINF, _BOTH, _NEITHER, _ON_COLOUR, _L1, _L2, *CYCLE = _ROLES
"""`CYCLE`: eight colours for what has none of its own, such as the models of a comparison."""

_MARKS: dict[str, tuple[str, list[int], str]] = {
    Norm.L0: (_L0, [1, 0], "circle"),
    Norm.L1: (_L1, [10, 3, 3, 3], "triangle-down"),
    Norm.L2: (_L2, [3, 3], "diamond"),
    Norm.LINF: (_LINF, [7, 4], "square"),
}
"""Colour, dash and symbol of the curve of a norm; the legend on the page repeats them."""

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "padding": {"left": 22, "right": 10, "top": 4, "bottom": 4},  # the reader's font may be wider than the renderer's
    "axis": {
        "labelColor": _TEXT, "titleColor": _TEXT, "gridColor": _LINE, "domainColor": _MUTED, "tickColor": _MUTED,
        "labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 12,
    },
}  # fmt: skip


class Point(NamedTuple):
    """One point of a curve: shares of all samples that are not broken, and proven, with their intervals."""

    norm: str
    th: int
    value: float
    low: float
    high: float
    proven: float


def curve_points(assessment: Assessment) -> list[Point]:
    """Robust accuracy over th, from the clean accuracy at th = 0; empty when none is right.

    A norm whose smallest levels were searched has a point at every level of 1..127, and of a longer range at `DRAWN`.
    """
    points: list[Point] = []
    if not assessment.clean.count or assessment.clean_accuracy is None or assessment.clean_interval is None:
        return points
    searched = {part.norm: part for part in assessment.minimal}
    for norm in dict.fromkeys(threat.norm for threat in assessment.threats if _has_curve(threat)):
        points.append(Point(norm, 0, assessment.clean_accuracy, *assessment.clean_interval, 0.0))
        if norm in searched:
            last = largest_level(Norm(norm), assessment.dataset.shape)
            points += _searched_points(searched[norm], assessment.clean.total, last)
        else:
            points += [_point(threat) for threat in assessment.threats if threat.norm == norm]
    return points


def _has_curve(threat: ThreatPart) -> bool:
    return threat.norm in BALLS and threat.th != OWN


def curves_svg(assessment: Assessment, prefix: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Not broken against th, with interval bands, and the proven edge where there is one: `((norms, svg), ...)`.

    L0 and Linf share a chart, because they share their levels; each other norm has one of its own. Empty when there is
    nothing to draw. `prefix` keeps the ids of several charts on one page apart.
    """
    points = curve_points(assessment)
    assessed = list(dict.fromkeys(point.norm for point in points))
    groups = [[norm for norm in assessed if norm in DUAL], *([norm] for norm in assessed if norm not in DUAL)]
    return tuple(
        (tuple(group), _curves([point for point in points if point.norm in group], f"{prefix}-{number}"))
        for number, group in enumerate(groups)
        if group
    )


def _curves(points: Sequence[Point], prefix: str) -> str:
    import altair as alt

    last = max(point.th for point in points)
    shown = list(dict.fromkeys(point.norm for point in points))
    rows = [{**point._asdict(), "norm": norms.name(point.norm)} for point in points]
    own = None if shown[0] in DUAL else norms.short(shown[0])
    long = last > LONG if own is None else len(points) > LONG
    unit = "pixels (L0) / 1/255 steps (Linf)" if own is None else f"1/255 steps of {own} distance"
    x = alt.X(
        "th:Q",
        title=f"th: {unit}; 0 = unperturbed",
        scale=alt.Scale(type="symlog" if long else "linear", domain=[0, last], nice=False),
        axis=alt.Axis(values=_ticks(points, last, long), format="d", grid=False),
    )
    y = alt.Y(
        "value:Q", title="not broken, share of all samples", scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
    )  # fmt: skip
    layers = _curve_layers(alt, x, y, shown, rows, marks=not long or _few(points))
    chart = alt.layer(*layers, data=alt.InlineData(values=rows)).properties(width=WIDTH, height=HEIGHT)
    return as_svg(chart.to_dict(), prefix, _curves_text(points))


def _ticks(points: Sequence[Point], last: int, long: bool) -> list[int]:
    if not long or _few(points):
        return sorted({point.th for point in points})
    decades = [10**power for power in range(len(str(last)))]
    ticks = list(LONG_AXIS) if last <= LAST_LEVEL else [0, *decades]
    return [tick for tick in ticks if tick <= last]


def _few(points: Sequence[Point]) -> bool:
    return len({point.th for point in points if point.th}) <= FEW


def agreement_svg(agreement: Sequence[AgreementPart], prefix: str) -> str:
    """One stacked bar a level: broken only under L0, under both, only under Linf, under neither."""
    import altair as alt

    parts = [part for part in agreement if part.samples]
    if not parts:
        return ""
    kinds = ["only L0", "both", "only Linf", "neither"]
    rows = [
        {"th": f"th = {part.th}", "kind": kind, "order": order, "count": count, "share": count / part.samples,
         "middle": (before + count / 2) / part.samples}
        for part in parts
        for order, (kind, count, before) in enumerate(_stacked(part))
    ]  # fmt: skip
    y = alt.Y("th:N", sort=[f"th = {part.th}" for part in parts], title=None, axis=alt.Axis(ticks=False, domain=False))
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[_L0, _BOTH, _LINF, _NEITHER]),
        legend=None,  # on the page
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y)
    bars = base.mark_bar(stroke=_ON_COLOUR, strokeWidth=1).encode(
        x=alt.X("share:Q", stack="zero", title="share of correctly classified samples", scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1], grid=False)),
        color=colour,
        order=alt.Order("order:Q"),
    )  # fmt: skip
    numbers = (
        base.transform_filter("datum.share >= 0.06")
        .mark_text(color=_ON_COLOUR, fontSize=13, fontWeight="bold")
        .encode(x=alt.X("middle:Q"), text="count:Q")
    )
    chart = (bars + numbers).properties(width=WIDTH, height=max(46 * len(parts), 60))
    spoken = "; ".join(
        f"th {p.th}: only L0 {p.only_l0}, both {p.both}, only Linf {p.only_linf}, neither {p.neither} of {p.samples}"
        for p in parts
    )
    return as_svg(chart.to_dict(), prefix, f"Agreement of the two norms. {spoken}.")


def _stacked(part: AgreementPart) -> list[tuple[str, int, int]]:
    """(kind, count, samples to the left of it)."""
    counts = [part.only_l0, part.both, part.only_linf, part.neither]
    before = [0, *accumulate(counts)][:-1]
    return list(zip(("only L0", "both", "only Linf", "neither"), counts, before, strict=True))


def _curve_layers(
    alt: Any, x: alt.X, y: alt.Y, shown: Sequence[str], rows: Iterable[Mapping[str, Any]], *, marks: bool
) -> list[Any]:
    def channel(kind: Any, range_: Sequence[Any]) -> Any:
        # The page writes the legend: the renderer would take its symbols from the pale band.
        domain = [norms.name(norm) for norm in shown]
        return kind("norm:N", scale=alt.Scale(domain=domain, range=list(range_)), legend=None)

    colours, dashes, shapes = zip(*(_MARKS[norm] for norm in shown), strict=True)
    colour, dash, shape = channel(alt.Color, colours), channel(alt.StrokeDash, dashes), channel(alt.Shape, shapes)
    base = alt.Chart().encode(x=x, y=y)
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q"), y2="high:Q", color=colour)
    layers = [band, base.mark_line(strokeWidth=2.5).encode(color=colour, strokeDash=dash)]
    if marks:
        layers.append(base.mark_point(filled=True, opacity=1, size=70).encode(color=colour, shape=shape))
    if any(row["proven"] > 0 for row in rows):
        proven = base.transform_filter("datum.th > 0").encode(y=alt.Y("proven:Q"), color=colour)
        layers += [proven.mark_line(strokeWidth=2, strokeDash=[2, 3]), proven.mark_point(shape="triangle", size=60)]
    return layers


def _point(threat: ThreatPart) -> Point:
    low, high = threat.interval.not_broken or (0.0, 1.0)
    robust = threat.robust_accuracy
    return Point(threat.norm, threat.th, robust.not_broken or 0.0, low, high, robust.proven or 0.0)


def _searched_points(part: MinimalPart, total: int, last: int) -> list[Point]:
    levels = range(FIRST_LEVEL, last + 1)
    if last > LAST_LEVEL:
        levels = np.unique(np.geomspace(FIRST_LEVEL, last, DRAWN).round().astype(np.int64)).tolist()
    points = []
    for th in levels:
        standing = part.samples - sum(count for smallest, count in part.counts.items() if smallest <= th)
        low, high = clopper_pearson(standing, total) or (0.0, 1.0)
        points.append(Point(part.norm, th, standing / total, low, high, 0.0))
    return points


def _curves_text(points: Sequence[Point]) -> str:
    """The curve for those who do not see it; of a long one, the usual levels or some."""
    some = {point.th for point in points[:: max(1, len(points) // 12)]} if points[-1].th > LAST_LEVEL else LONG_AXIS
    shown = [point for point in points if point.th in some or len(points) < 30]
    said = "; ".join(f"{norms.name(p.norm)} th {p.th}: {100 * p.value:.0f} %" for p in shown)
    return f"Share of all samples that is not broken, by level. {said}."


def as_svg(spec: Mapping[str, Any], prefix: str, description: str) -> str:
    """The rendered chart as an inline SVG: no fixed colours, fonts or sizes, and ids of its own."""
    import vl_convert

    # The caller's altair theme must not change the report, so the whole configuration is replaced.
    svg: str = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG})
    svg = re.sub(r'\s(?:xmlns(?::xlink)?|version|class|role|aria-[a-z]+|pointer-events|font-family)="[^"]*"', "", svg)
    for stand_in, role in _ROLES.items():
        svg = svg.replace(stand_in, role)
    # Ids come from a counter of the renderer's process; numbered by appearance they are the same in every run.
    for number, name in enumerate(dict.fromkeys(re.findall(r'\sid="([^"]+)"', svg))):
        svg = svg.replace(f'id="{name}"', f'id="{prefix}-{number}"').replace(
            f"url(#{name})", f"url(#{prefix}-{number})"
        )
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{description}"', 1)
