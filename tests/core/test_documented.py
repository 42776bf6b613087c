"""Meta-tests: what can be used, asked for or met is named somewhere in docs/."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from charpy import errors, hookspecs
from charpy.analysis import document
from charpy.cli import app
from charpy.cli.app import run_program
from charpy.plugins import HOOKS, registry
from charpy.specs import RunSpec, schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.relative_to(ROOT / "docs"): path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")}
DOCS = "\n".join(PAGES.values())
STUDY = ("build", "edit", "serve", "analyse", "simulate", "plan")


def page(name: str) -> str:
    return PAGES[Path(name)]


def missing(names: Iterator[str] | list[str], text: str = DOCS) -> list[str]:
    """Those of `names` that stand nowhere in `text` as code: in backticks, or in a block."""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    words = set(re.findall(r"--[a-z][a-z-]+|[\w.-]+", code))
    return sorted({name for name in names if name not in words})


def test_every_hook():
    hooks = [name for name in vars(hookspecs) if name.startswith("charpy_")]
    assert not missing([name for name in hooks if callable(getattr(hookspecs, name))], page("plugins.md"))


HOMES = {"attacks": "attacks.md", "metrics": "metrics.md", "defenses": "defenses.md", "commands": "cli.md"}
"""Hook -> the page of its kinds; of the others it is components.md, and of ready-made models models.md, too."""


@pytest.mark.parametrize("hook", HOOKS)
def test_every_kind_of_the_built_in_packages_is_on_its_page(hook):
    kinds = [entry.kind for entry in registry().entries(hook) if entry.package == "charpy"]
    assert kinds
    text = page(HOMES.get(hook, "components.md")) + (page("models.md") if hook == "models" else "")
    assert not missing(kinds, text)


def test_a_kind_that_no_page_names_would_be_found():
    assert missing(["pgd", "no_such_attack"], page("attacks.md")) == ["no_such_attack"]


def test_every_error_type_with_its_exit_code():
    rows = dict(re.findall(r"^\| `(\w+Error)` \| (\d) \|", page("errors.md"), re.MULTILINE))
    types = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert rows == {name: str(kind.exit_code) for name, kind in types.items()}


def test_every_exit_code():
    codes = {str(value) for name, value in vars(app).items() if name.isupper() and isinstance(value, int)}
    table = page("errors.md").split("## Exit codes")[1].split("## ")[0]
    assert codes == set(re.findall(r"^\| `(\d+)` \|", table, re.MULTILINE))


def commands() -> list[tuple[str, ...]]:
    kinds = [entry.kind for entry in registry().entries("commands") if entry.package == "charpy"]
    return [(kind,) for kind in kinds if kind != "study"] + [("study", name) for name in STUDY]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_and_option(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run_program([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"charpy {' '.join(command)}" in DOCS or f"`{command[-1]}`" in page("cli.md")
    arguments = {match.lower() for match in re.findall(r"│ \*? *([A-Z][A-Z-]+) --[a-z-]+", text)}  # positional ones
    options = set(re.findall(r"(?<!\w)--[a-z][a-z-]+", text)) - {"--help", *(f"--{name}" for name in arguments)}
    assert not missing(sorted(options)), f"options of charpy {' '.join(command)} that no page names"


def test_every_command_of_a_study_is_known_here(capsys):
    assert run_program(["study", "--help"]) == 0
    assert set(re.findall(r"^│ ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)) == set(STUDY)


def fields(part: type[BaseModel]) -> set[str]:
    """Every field of a Pydantic model and of the models inside it, by the name that a file uses."""
    definitions: dict[str, Any] = part.model_json_schema(by_alias=True, mode="serialization")
    parts = [definitions, *definitions.get("$defs", {}).values()]
    return {name for inner in parts for name in inner.get("properties", {})}


def test_every_field_of_a_spec():
    assert not missing(sorted(fields(RunSpec)), page("spec.md"))


@pytest.mark.parametrize(("name", "options"), [("spec.md", ()), ("report-fields.md", ("--report",))])
def test_a_page_of_fields_is_the_current_one(name, options, capsys):
    command = ["schema", *options, "--markdown"]
    assert run_program(command) == 0
    assert capsys.readouterr().out == page(name), f"write it again: charpy {' '.join(command)} > docs/{name}"


def test_a_field_without_a_meaning_is_not_let_through():
    rows = re.findall(r"^\| `\w+` \|.*$", page("spec.md"), re.MULTILINE)
    assert len(rows) > len(schema()["properties"])
    assert not [row for row in rows if row.endswith("|  |")]


def test_every_field_of_a_report():
    assert not missing(sorted(fields(document.AssessmentSet)), page("report-fields.md"))


def named_fields(text: str) -> list[str]:
    """The fields that the right column of the tables of docs/standards.md names, such as `threats[].norm`."""
    cells = re.findall(r"^\| .*? \| (.*) \|$", text, re.MULTILINE)
    ours = {entry.kind for entry in registry().entries()} | {"charpy attacks", "charpy compare", "real", "float-sound"}
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) if name not in ours]


def test_every_field_that_the_standards_page_names_is_one_of_a_report():
    named = named_fields(page("standards.md"))
    values = {"held", "transfer_better", "alpha", "of"}  # an outcome, an indicator, and what stands in `detail`
    assert len(named) > 40
    known = fields(document.AssessmentSet)
    assert not [name for name in named if name not in values and not set(re.split(r"\[\]\.|\.", name)) <= known]


def test_a_field_that_no_report_has_would_be_found():
    assert named_fields("| a | `threats[].radius`, `crown` and `charpy compare` |") == ["threats[].radius"]
    assert not {"threats", "radius"} <= fields(document.AssessmentSet)


def test_what_the_standards_page_does_not_cover_is_said():
    sections = page("standards.md").split("\n## ")[1:]
    assert len(sections) == 4
    assert all("not covered" in section for section in sections)


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("charpy_docs_staging", ROOT / "docs" / "staging.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation():
    named = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    left_out = [str(name) for name in PAGES if f'"docs/{name.as_posix()}"' not in named]
    assert not left_out, "name them in `nav` of zensical.toml"


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    left_out = [str(name) for name in PAGES if name.parts[0] != "api" and f"(docs/{name.as_posix()}" not in readme]
    assert not left_out


def test_a_link_to_a_folder_leads_to_its_page(site):
    text = "[a](../tests/third_party) [b](../README.md#what-is-proven) [c](cli.md#x) [d](https://a.b/c) [e](#f)"
    moved = site.relinked(text, "docs/plugins.md")
    assert moved == (
        "[a](../tests/third_party/index.md) [b](../index.md#what-is-proven) [c](cli.md#x) [d](https://a.b/c) [e](#f)"
    )


def test_a_file_that_a_page_links_to_is_on_the_site(site):
    text = "[a](../LICENSE) ![b](images/report.png) [c](nowhere.md) [d](https://a.b/LICENSE) [e](../tests)"
    assert site.linked(text, "docs/plugins.md") == {"LICENSE", "docs/images/report.png"}


BROKEN = {
    '<a href="nowhere.html">': "no file behind nowhere.html",
    '<a href="other.html#gone">': "no anchor behind other.html#gone",
    '<a href="#gone">': "no anchor behind #gone",
    '<img src="none.png">': "no file behind none.png",
    '<script src="https://cdn.example/x.js">': "loads https://cdn.example/x.js",
    '<link rel="stylesheet" href="//fonts.example/x.css">': "loads //fonts.example/x.css",
}


@pytest.mark.parametrize("tag", BROKEN)
def test_what_is_wrong_with_a_built_site_is_found(site, tmp_path, tag):
    (tmp_path / "other.html").write_text('<p id="there"><a href="page.html#top"></a>')
    (tmp_path / "page.html").write_text('<p id="top"><a href="other.html#there"></a><a href="https://a.b"></a>')
    assert site.problems(tmp_path) == []
    (tmp_path / "page.html").write_text(f'<p id="top">{tag}')
    assert site.problems(tmp_path) == [f"page.html: {BROKEN[tag]}"]


def test_a_style_that_loads_from_elsewhere_is_found(site, tmp_path):
    (tmp_path / "page.html").write_text("<p>")
    (tmp_path / "style.css").write_text("body { background: url(here.png) }")
    assert site.problems(tmp_path) == []
    (tmp_path / "style.css").write_text("@font-face { src: url('https://fonts.example/a.woff2') }")
    assert site.problems(tmp_path) == ["style.css: loads from another host"]


def test_an_empty_site_is_no_good_one(site, tmp_path):
    assert site.problems(tmp_path)
