"""An analysis as one offline HTML page, in the style of the report and as inert."""

from __future__ import annotations

from importlib.resources import files

from charpy.reports.html import environment_of, markup, template_text
from charpy.reports.lines import line
from charpy_plugins.study.analysis.document import StudyAnalysis
from charpy_plugins.study.export.human_labels import HumanLabels
from charpy_plugins.study.pages import figures
from charpy_plugins.study.pages.charts import accuracy_svg, confidence_svg, people_svg
from charpy_plugins.study.pages.view import galleries, matrices, measured
from charpy_plugins.study.studyfile import Study

_HERE = "charpy_plugins.study.pages"
GALLERY = 6
"""Images shown of each condition."""


def render_page(study: Study, analysis: StudyAnalysis, labels: HumanLabels, *, gallery: int = GALLERY) -> bytes:
    """UTF-8 HTML; the same study and analysis give the same bytes."""
    environment = environment_of(_HERE)
    own = files(_HERE).joinpath("templates", "analysis.css").read_text(encoding="utf-8")
    conditions = analysis.conditions
    text = environment.get_template("analysis.html.j2").render(
        study=study.document,
        document=analysis,
        labels=labels,
        figures=figures,
        measures=measured(analysis),
        galleries=galleries(study, analysis, gallery),
        matrices=matrices(analysis),
        accuracy_chart=accuracy_svg(conditions, "accuracy"),
        confidence_chart=confidence_svg(conditions, "confidence"),
        people_chart=people_svg(conditions, "people"),
        lines=[line(part.name, place) for place, part in enumerate(conditions)],
        css=markup(template_text("style.css") + own),
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")
