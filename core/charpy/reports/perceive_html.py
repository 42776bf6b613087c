"""A study of perception as one offline HTML page, in the style of the report and as inert."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.perception.document import ExamplePart, MetricPart, Perception
from charpy.analysis.perception.examples import Shown
from charpy.analysis.perception.perceive import LARGE, Study
from charpy.perception.measure import NORMS
from charpy.reports.html import markup, page_environment, template_text
from charpy.reports.images import MIDDLE, as_bytes, data_uri, scale255
from charpy.reports.lines import Line, line
from charpy.reports.perceive_charts import rates_svg, roc_svg, scatter_svg
from charpy.reports.scatter import mark

SPREAD = ("l0_pixels", "l0_features", "l2", "linf", "ssim")
"""Metrics whose spread is shown, beside the leads: those of which the paper has figures."""

ALL_SPREADS = 6
"""Of as many metrics as this, at most, each one's spread is shown."""


class Chart(NamedTuple):
    """ROC curves and their legend."""

    title: str
    lines: list[Line]
    svg: str


class Card(NamedTuple):
    """An example with its pictures, as data URIs."""

    part: ExamplePart
    original: str
    changed: str
    difference: str
    values: list[tuple[str, float | None]]


class Gallery(NamedTuple):
    """Examples that were chosen in one way."""

    title: str
    text: str
    cards: list[Card]


def render_page(study: Study, leads: tuple[str, ...]) -> bytes:
    """UTF-8 HTML; the same study gives the same bytes. `leads`: the metrics of the scatter and of the examples."""
    document = study.document
    page = page_environment().get_template("perceive.html.j2")
    text = page.render(
        document=document,
        rocs=_rocs(document),
        usual=[(part, at) for part in document.metrics for at in part.thresholds if at.role == "usual"],
        best=_best(document),
        metrics=[(part, rates_svg(part, f"rates-{place}")) for place, part in enumerate(document.metrics)],
        spreads=_spreads(document, leads),
        scatter=scatter_svg(study.measured, leads[0], leads[-1], "scatter") if len(leads) > 1 else "",
        leads=leads,
        marks=[mark(group.name, place) for place, group in enumerate(document.groups)],
        galleries=_galleries(study, leads),
        height=document.shape[1],
        width=document.shape[2],
        large=max(document.shape[1:]) > LARGE,
        css=markup(template_text("style.css") + template_text("perceive.css")),
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")


def _spreads(document: Perception, leads: tuple[str, ...]) -> list[MetricPart]:
    if len(document.metrics) <= ALL_SPREADS:
        return list(document.metrics)
    return [part for part in document.metrics if part.kind in {*SPREAD, *leads}]


def _rocs(document: Perception) -> list[Chart]:
    """Norms in one chart, the others in another."""
    groups = {
        "Norms": [part for part in document.metrics if part.kind in NORMS and part.area],
        "Other metrics": [part for part in document.metrics if part.kind not in NORMS and part.area],
    }
    return [
        Chart(
            title,
            [line(part.kind, place) for place, part in enumerate(parts)],
            roc_svg(parts, f"roc-{title.split()[0].lower()}"),
        )
        for title, parts in groups.items()
        if parts
    ]


def _best(document: Perception) -> list[tuple[MetricPart, dict[str, Any]]]:
    """Each metric with its thresholds that were chosen on the pairs, by role; the largest area first."""
    found: list[tuple[MetricPart, dict[str, Any]]] = [
        (part, {at.role: at for at in part.thresholds if at.role != "usual"}) for part in document.metrics
    ]
    return sorted((item for item in found if item[0].area), key=lambda item: -item[0].area.value if item[0].area else 0)


def _galleries(study: Study, leads: tuple[str, ...]) -> list[Gallery]:
    said = {
        "alike": ("Look alike, and are far", "count as looking alike, farthest by"),
        "different": ("Look different, and are near", "count as looking different, nearest by"),
        "classes": ("Two originals of different classes", "are the closest by"),
    }
    kinds = [part.kind for part in study.document.metrics]
    galleries = []
    for section, (title, text) in said.items():
        for kind in leads:
            shown = [item for item in study.shown if item.part.section == section and item.part.metric == kind]
            cards = [_card(item, kinds) for item in shown]
            if cards:
                galleries.append(Gallery(f"{title}: {kind}", f"{text} {kind}", cards))
    return galleries


def _card(item: Shown, kinds: list[str]) -> Card:
    original, changed = scale255(item.original), scale255(item.changed)
    values = [(kind, item.part.values[kind]) for kind in kinds if kind in {*NORMS, "ssim", item.part.metric}]
    return Card(
        item.part,
        data_uri(as_bytes(original)),
        data_uri(as_bytes(changed)),
        data_uri(_difference(changed - original)),
        values,
    )


def _difference(gap: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Half of the difference around grey: every difference has its place between black and white."""
    return as_bytes(MIDDLE + gap / 2)
