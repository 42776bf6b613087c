"""A plugin's page in the environment of every page: its own templates, the filters, and names made harmless."""

from __future__ import annotations

import jinja2
import pytest

from charpy.reports.html import environment_of


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    folder = tmp_path / "stranger_pages" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "own.html.j2").write_text(
        "<p title=\"{{ name }}\">{{ name }} {{ 0.5 | percent }}</p>{% include 'style.css' %}"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "stranger_pages"


def test_names_are_escaped_and_made_visible(stranger):
    text = environment_of(stranger).get_template("own.html.j2").render(name='"><script>\u202e')
    assert text.startswith('<p title="&#34;&gt;&lt;script&gt;[U+202E]">&#34;&gt;&lt;script&gt;[U+202E] 50\u00a0%</p>')
    assert "color-scheme" in text  # of charpy's own templates


def test_an_unknown_template_or_name_is_an_error(stranger):
    environment = environment_of(stranger)
    with pytest.raises(jinja2.TemplateNotFound):
        environment.get_template("none.html.j2")
    with pytest.raises(jinja2.UndefinedError):
        environment.get_template("own.html.j2").render()
