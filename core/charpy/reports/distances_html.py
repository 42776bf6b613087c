"""The distances of a dataset as one offline HTML page, in the style of the report and as inert."""

from __future__ import annotations

from charpy.analysis.distances.document import Distances
from charpy.reports.distances_chart import nearest_svg
from charpy.reports.distances_view import (
    MOST_CLASSES,
    figure,
    heat_rows,
    marked_sentences,
    no_marks,
    rule_sentence,
    subject,
)
from charpy.reports.html import markup, page_environment, template_text


def render_page(document: Distances) -> bytes:
    """UTF-8 HTML; the same document gives the same bytes."""
    names = [entry.name for entry in document.classes]
    labels = [entry.label for entry in document.classes]
    page = page_environment().get_template("distances.html.j2")
    text = page.render(
        document=document,
        names=names,
        subject=subject(document),
        metrics=[
            (part, heat_rows(part, names), marked_sentences(part), nearest_svg(part, labels, f"nearest-{place}"))
            for place, part in enumerate(document.metrics)
        ],
        numbers=len(names) <= MOST_CLASSES,
        no_marks=no_marks,
        figure=figure,
        rule=rule_sentence(document.eps) if document.eps is not None else "",
        css=markup(template_text("style.css") + template_text("distances.css")),
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")
