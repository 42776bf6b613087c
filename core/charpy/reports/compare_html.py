"""A comparison as one offline HTML file, in the style of the report and as inert."""

from __future__ import annotations

from typing import NamedTuple

from charpy.analysis.comparison.document import Comparison
from charpy.reports import norms
from charpy.reports.compare_charts import comparison_svg
from charpy.reports.compare_view import legend, norms_of, section_views
from charpy.reports.html import markup, page_environment, template_text
from charpy.reports.lines import Line, line


class Chart(NamedTuple):
    """The curves of one norm."""

    title: str
    lines: list[Line]
    svg: str


def render_html(document: Comparison) -> bytes:
    """UTF-8 HTML; the same document gives the same bytes."""
    page = page_environment().get_template("compare.html.j2")
    text = page.render(
        document=document,
        subject=f"Comparison, {' and '.join(norms.short(norm) for norm in norms_of(document))}",
        models=len({entry.model for entry in document.entries}),
        sections=section_views(document),
        charts=_charts(document),
        css=markup(template_text("style.css") + template_text("compare.css")),
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")


def _charts(document: Comparison) -> list[Chart]:
    charts = []
    for norm in norms_of(document):
        curves = [curve for curve in document.curves if curve.norm == norm]
        if curves:
            lines = [line(title, place) for place, title in enumerate(legend(document, norm))]
            charts.append(Chart(norms.name(norm), lines, comparison_svg(curves, f"curve-{norm}")))
    return charts
