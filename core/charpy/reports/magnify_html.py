"""A sample under magnification as one offline HTML page, in the style of the report and as inert."""

from __future__ import annotations

from charpy.reports import norms
from charpy.reports.html import LARGE, markup, page_environment, template_text
from charpy.reports.images import SHOWN, data_uri
from charpy.reports.magnify import Views


def render_page(views: Views) -> bytes:
    """UTF-8 HTML. The original's two pictures, which every row shows, are in the style sheet once."""
    shared = {"original": views.original, "magnified": views.magnified}
    rules = "".join(
        f".shared.{name} {{ background-image: url({data_uri(image)}); }}\n" for name, image in shared.items()
    )
    height, width = views.original.shape[1:]
    page = page_environment().get_template("magnify.html.j2")
    text = page.render(
        sheet=views.sheet,
        sections=[(model, norm, norms.name(norm), rows) for model, norm, rows in views.sections],
        uri=data_uri,
        shown=SHOWN,
        height=height,
        width=width,
        large=max(height, width) > LARGE,
        css=markup(template_text("style.css") + template_text("magnify.css") + rules),
    )
    return text.encode("utf-8", errors="xmlcharrefreplace")
