"""The run as one offline HTML file: no script, no external resource, inert against every name in it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from charpy.interfaces import component
from charpy.interfaces.report import Report
from charpy.reports import norms
from charpy.reports.figures import duration, interval, number, percent, queries
from charpy.reports.images import pictures
from charpy.reports.inert import visible
from charpy.reports.trust import grade_name

if TYPE_CHECKING:
    import jinja2

    from charpy.analysis.summary import RunSummary
    from charpy.reports.view import ModelView

LARGE = 96
"""Images with a longer side than this are shown in a third of the number: their PNGs fill the page."""


class HtmlReport(Report):
    """The report for people: one offline HTML file that prints, scales to a phone and follows light and dark."""

    suffix: ClassVar[str] = ".html"

    class Params(component.Params):
        """How much is shown."""

        gallery: int = component.param(
            12, ge=0, le=500, description="witnesses shown per model and norm", unit="images", source="ours"
        )

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 HTML. Images are read for the chosen witnesses only."""
        from charpy.reports.view import comparison, subject

        views = [self._view(run, index) for index in range(len(run.assessments))]
        page = page_environment().get_template("page.html.j2")
        text = page.render(
            name=run.name,
            views=views,
            columns=comparison(run.assessments),
            attackers=run.attackers,
            subject=subject(run.assessments),
            css=markup(template_text("style.css")),
        )
        return text.encode("utf-8", errors="xmlcharrefreplace")

    def _view(self, run: RunSummary, index: int) -> ModelView:
        from charpy.reports.view import model_view

        assessment = run.assessments[index]
        large = max(assessment.dataset.shape[1:]) > LARGE
        limit = -(-self.params.gallery // 3) if large else self.params.gallery
        norms = dict.fromkeys(threat.norm for threat in assessment.threats)
        gallery = {norm: pictures(run.gallery(index, norm, limit)) for norm in norms}
        return model_view(f"m{index + 1}", assessment, gallery)


@cache
def page_environment() -> jinja2.Environment:
    """The templates of this package, with the filters of every page; what comes in is escaped and made visible."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(template_text),
        autoescape=True,
        finalize=_finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(radius=norms.radius, moved=norms.moved)
    environment.filters.update(
        percent=percent,
        interval=interval,
        number=number,
        duration=duration,
        queries=queries,
        norm=norms.short,
        title_of=norms.name,
        level=norms.level,
        grade=grade_name,
        safe_svg=markup,
        code=_code,
    )
    return environment


def environment_of(package: str) -> jinja2.Environment:
    """The same for a plugin's page: templates of the folder `templates` of `package`, then those of this package.

    The plugin's templates get the filters and the care for names of every page; `{% include %}` reaches both.
    """
    import jinja2

    def reader(of: str) -> jinja2.FunctionLoader:
        def read(name: str) -> str | None:
            file = files(of).joinpath("templates", name)
            return file.read_text(encoding="utf-8") if file.is_file() else None

        return jinja2.FunctionLoader(read)

    return page_environment().overlay(loader=jinja2.ChoiceLoader([reader(package), reader("charpy.reports")]))


def template_text(name: str) -> str:
    """A file of the templates folder."""
    return files("charpy.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _finalize(value: Any) -> Any:
    """Every name passes here on its way into the page: hidden characters become visible; then it is escaped."""
    import markupsafe

    return visible(value) if isinstance(value, str) and not isinstance(value, markupsafe.Markup) else value


def _code(text: str) -> Any:
    """Text of several lines, for a `pre`."""
    import markupsafe

    return markupsafe.escape(visible(text, keep="\n"))


def markup(text: str) -> Any:
    """What this package wrote itself: the style sheet and the charts."""
    import markupsafe

    return markupsafe.Markup(text)
