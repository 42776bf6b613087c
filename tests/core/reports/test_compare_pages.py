"""The formats of a comparison: an offline inert page, Markdown and terminal that say the same, JSON by its schema."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from charpy.analysis.comparison.compare import _name, compare
from charpy.analysis.comparison.document import Comparison
from charpy.reports.compare_html import render_html
from charpy.reports.compare_markdown import plain, render_markdown
from charpy.reports.compare_terminal import comparison_tables
from charpy.reports.compare_view import section_views
from charpy.reports.json_report import comparison_schema, json_bytes

COMMITTED = Path(__file__).parents[3] / "docs" / "schema" / "comparison.schema.json"


@pytest.fixture(scope="module")
def pages():
    """What the tests of the report check of every page."""
    name = "charpy_tests_pages"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("test_html.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document(synthetic, tmp_path_factory) -> Comparison:
    """Two runs of one model, and one of another that has L1 and L2 too."""
    folder = tmp_path_factory.mktemp("runs")
    options = [{"plans": [synthetic.FRAIL]}, {"plans": [synthetic.FRAIL]}]
    options += [{"plans": [synthetic.FOUR], "levels": synthetic.FOUR_LEVELS}]
    runs = []
    for number, option in enumerate(options):
        (folder / str(number)).mkdir()
        runs.append(synthetic.build(folder / str(number) / "run.charpy", **option))
    found = compare(runs)
    for run in runs:
        run.close()
    return found


def test_the_page_is_offline_inert_and_the_same_each_time(document, pages):
    text = render_html(document).decode()
    page = pages.check(text)
    assert render_html(document) == text.encode()
    for section in section_views(document):
        assert section.title in page.text
    assert "compare.json" in page.text


def test_every_curve_has_a_line_in_its_chart_and_a_name_beside_it(document):
    text = render_html(document).decode()
    norms = dict.fromkeys(curve.norm for curve in document.curves)
    assert text.count('<svg class="chart"') == len(norms) == 4
    assert text.count('class="line"') == len(document.curves)
    for number in range(1, sum(curve.norm == "l0" for curve in document.curves) + 1):
        assert f'stroke="var(--c{number})"' in text


def test_every_format_has_the_same_figures(document):
    markdown = render_markdown(document).decode()
    sink = io.StringIO()
    console = Console(file=sink, width=200, color_system=None)
    for table in comparison_tables(document):
        console.print(table)
    page = render_html(document).decode()
    for view in section_views(document):
        if view.missing:
            assert view.missing in markdown
        for table in view.tables:
            assert f"{plain(table.caption)}:" in markdown
            for row in table.rows:
                line = next(line for line in markdown.splitlines() if line.startswith(f"| {plain(row[0].text)}"))
                assert line.count("|") >= 3
                for cell in row:
                    assert cell.text.replace("<", "&lt;") in page
                    assert plain(cell.text) in markdown
                    assert view.name not in ("dual", "areas") or cell.text in sink.getvalue()


def test_names_from_elsewhere_are_inert(synthetic, tmp_path, pages):
    hostile = synthetic.Plan(pages.HOSTILE, finds=synthetic.FRAIL.finds)
    with synthetic.build(tmp_path / "run.charpy", [hostile], class_names=(pages.HOSTILE, "|x|")) as run:
        document = compare([run])
    pages.check(render_html(document).decode())
    markdown = render_markdown(document).decode()
    assert "\x1b" not in markdown
    assert "\u202e" not in markdown
    assert "<script" not in markdown.replace("\\<", "")
    assert "| |x| |" not in markdown
    sink = io.StringIO()
    for table in comparison_tables(document):
        Console(file=sink, width=300, color_system=None).print(table)
    assert "\x1b" not in sink.getvalue()


def test_the_published_schema_is_the_one_of_the_code_and_takes_a_comparison(document):
    hint = "rewrite it: python -m charpy.reports.json_report comparison > docs/schema/comparison.schema.json"
    schema = comparison_schema()
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == schema, hint
    validator = jsonschema.Draft202012Validator(schema)
    found = json.loads(json_bytes(document))
    validator.validate(found)
    assert Comparison.model_validate(found) == document
    del found["dual"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(found)


def test_many_models_and_runs_fit_the_page(synthetic, tmp_path):
    plans = [synthetic.Plan(f"net {number}", finds=synthetic.FRAIL.finds) for number in range(7)]
    with synthetic.build(tmp_path / "run.charpy", plans, norms=("l0",), levels=(1,)) as run:
        document = compare([run])
    (attacks,) = (view for view in section_views(document) if view.name == "attacks")
    assert [len(table.head) for table in attacks.tables] == [2 + 6, 2 + 1]
    assert [table.head[-1] for table in attacks.tables] == ["net 5", "net 6"]
    twice = [entry.model_copy(update={"model": "one"}) for entry in document.entries]
    assert "; 1 model in 1 run<" in render_html(document.model_copy(update={"entries": tuple(twice)})).decode()
    assert _name(list("abcd")) == "a and b and c and d"
    assert _name(list("abcde")) == "a, b, c and 2 other runs"
