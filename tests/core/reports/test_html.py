from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from charpy.analysis.summary import RunSummary
from charpy.gates import read_gate
from charpy.reports.charts import curve_points
from charpy.reports.html import HtmlReport

VOID = {"meta", "img", "br", "line", "rect", "circle", "path"}
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>=cmd()\x1b[31m\u202egnp.exe\u2066"


class Page(HTMLParser):
    """Every tag with its attributes, the visible text, and whether every element that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not match"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def render(summary: RunSummary, **params: int) -> str:
    return HtmlReport(HtmlReport.Params(**params)).render(summary).decode("utf-8")


def check(text: str) -> Page:
    """What must be true of every report, whatever is in it."""
    page = Page(text)
    assert page.open == []
    names = {name for name, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "foreignobject", "use", "style "}
    for name, attrs in page.tags:
        for key, value in attrs.items():
            assert not key.startswith("on"), (name, key)
            if key in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("data:image/png;base64,", "#")), (name, key, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for key in ("aria-labelledby", "href"):
            if key in attrs and attrs[key].startswith(("#", "m", "c", "r")):
                assert attrs[key].removeprefix("#") in ids
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all("scope" in attrs for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    return page


@pytest.fixture(scope="module")
def page(summary: RunSummary) -> Page:
    return check(render(summary))


def test_it_says_what_was_found(page: Page, summary: RunSummary) -> None:
    assert summary.assessments[0].verdict.replace(" %", "\u00a0%") in page.text
    assert "1 x NaN in the scores" in page.text
    assert "distance 9 is outside the threat model" in page.text
    assert "not 1-pixel-safe" in page.text
    assert "no evidence" not in page.text  # every level of both models has a broken sample
    assert "cat \u2192 dog" in page.text


def test_it_has_landmarks_and_a_table_of_contents(page: Page) -> None:
    names = [name for name, _ in page.tags]
    assert {"header", "nav", "main", "footer", "section", "h1", "h2", "h3"} <= set(names)
    assert names.count("h1") == 1
    links = [attrs["href"] for attrs in page.all("a")]
    assert {"#comparison", "#m1", "#m2", "#reading"} <= set(links)
    assert page.all("html")[0]["lang"] == "en"


def test_the_gallery_has_five_images_a_witness_and_marks_changed_pixels(page: Page) -> None:
    witnesses = 2 * (3 + 3)  # two models, three broken samples under each norm
    assert len(page.all("img")) == 5 * witnesses
    marks = [attrs for attrs in page.all("rect") if attrs.get("class") == "mark"]
    assert len(marks) == 2 * (1 + 2 + 3)  # only under L0: one frame a changed pixel
    assert marks[0] == {"class": "mark", "x": "0.0", "y": "0.0", "width": "1.0", "height": "1.0"}


def test_the_same_run_gives_the_same_bytes(summary: RunSummary) -> None:
    assert HtmlReport().render(summary) == HtmlReport().render(RunSummary.of(summary.run))


def test_how_many_witnesses_are_shown(summary: RunSummary) -> None:
    assert len(check(render(summary, gallery=2)).all("img")) == 5 * 2 * 2 * 2
    assert check(render(summary, gallery=0)).all("img") == []


def test_charts_take_their_colours_from_the_page(summary: RunSummary) -> None:
    charts = re.findall(r'<svg class="chart".*?</svg>', render(summary), flags=re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        assert "var(--l0)" in chart
        assert "var(--linf)" in chart
        assert not re.search(r'(fill|stroke)="(#|rgb)', chart)
        assert "font-family" not in chart
        assert "http" not in chart


def hostile_run(synthetic: ModuleType, path: Path):
    plan = synthetic.Plan(
        HOSTILE, finds=synthetic.FRAIL.finds, invalid={("l0", 6, 3): HOSTILE}, rejected={("l0", 5, 3): HOSTILE}
    )
    before = dict(synthetic.ATTACKS)
    synthetic.ATTACKS.update(l0=(HOSTILE, "b"), linf=(HOSTILE + "2", "b"))
    try:
        return synthetic.build(
            path,
            [plan, synthetic.FRAIL],
            class_names=(HOSTILE, "dog"),
            warnings=[HOSTILE],
            environment={HOSTILE: HOSTILE},
            plugins={HOSTILE: HOSTILE},
        )
    finally:
        synthetic.ATTACKS.update(before)


def test_names_are_inert_and_what_is_hidden_in_them_is_visible(synthetic: ModuleType, tmp_path: Path) -> None:
    with hostile_run(synthetic, tmp_path / "run.charpy") as run:
        text = render(RunSummary.of(run))
    page = check(text)
    assert "<script" not in text.lower()
    assert "onerror=alert(1)>" in page.text  # it is there, as text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
    assert page.text.count("[U+202E]") >= 10
    assert page.text.count("[U+001B]") >= 10


def test_gates_stand_with_their_result_and_are_text(synthetic: ModuleType, tmp_path: Path) -> None:
    gates = [read_gate("clean_accuracy >= 0.4"), read_gate("l2 th=1 proven >= 0.1 of frail")]
    hostile = [read_gate(f"clean_accuracy >= 0.99 of {HOSTILE}")]
    with hostile_run(synthetic, tmp_path / "run.charpy") as run:
        text = render(RunSummary.of(run, gates=gates + hostile))
        assert "-gates" not in render(RunSummary.of(run))
    page = check(text)
    assert "<script" not in text.lower()
    assert [attrs["id"] for attrs in page.all("section") if attrs["id"].endswith("-gates")] == ["m1-gates", "m2-gates"]
    rows = re.findall(r"<th scope=\"row\" class=\"left\">([^<]*)</th><td>(?:<span class=\"no\">)?(passed|failed)", text)
    assert [result for _, result in rows] == ["failed", "failed", "passed", "failed"]  # the first model is no evidence
    assert rows[1][0].startswith("clean_accuracy lower bound &gt;= 0.99 of &lt;/script&gt;")
    assert "the run does not assess l2; it assesses l0, linf" in page.text


@pytest.mark.parametrize("labels", [(), (0, 0, 1, 1)])
@pytest.mark.parametrize("answer", ["wrong", "none"])
def test_runs_without_a_correct_sample_still_make_a_page(
    synthetic: ModuleType, tmp_path: Path, labels: tuple[int, ...], answer: str
) -> None:
    predictions = [1 - label if answer == "wrong" else None for label in labels]
    plan = synthetic.Plan("nothing", predictions=predictions)
    with synthetic.build(tmp_path / "run.charpy", [plan], labels=labels) as run:
        summary = RunSummary.of(run)
        page = check(render(summary))
    assert summary.assessments[0].verdict in page.text
    assert "No image was broken under this norm." in page.text
    assert "No attack ran." in page.text
    assert "nan" not in page.text.lower().replace("nan in", "").replace("such as nan", "")


@pytest.mark.parametrize("grid", ["8bit", "none"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 6), (4, 5, 5)])
def test_images_of_any_shape_and_grid(
    synthetic: ModuleType, tmp_path: Path, shape: tuple[int, int, int], grid: str
) -> None:
    from charpy.threat import Grid

    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], shape=shape, grid=Grid(grid)) as run:
        page = check(render(RunSummary.of(run)))
    assert {(attrs["width"], attrs["height"]) for attrs in page.all("img")} == {(str(shape[2]), str(shape[1]))}
    assert "difference \u00d7 1" in page.text  # 100 of 255 fits once on either side of the middle


def test_a_search_for_the_smallest_level_has_its_own_figures(synthetic: ModuleType, tmp_path: Path) -> None:
    plan = synthetic.Plan("deep", finds=[synthetic.Find("l0", 2, 64, 12), synthetic.Find("linf", 2, 2, 2)])
    with synthetic.build(tmp_path / "run.charpy", [plan], levels="minimal") as run:
        page = check(render(RunSummary.of(run)))
    assert "Median smallest th" in page.text
    assert "1 to 64, searched" in page.text


def test_the_proven_edge_is_shown_where_there_is_one(synthetic: ModuleType, tmp_path: Path) -> None:
    proven = np.zeros(8, np.int64)
    proven[[1, 5, 6, 7]] = 10
    plan = synthetic.Plan("half", finds=[synthetic.Find("l0", 2, 1, 1)])
    with synthetic.build(tmp_path / "run.charpy", [plan]) as run:
        with_proof = check(render(RunSummary.of(run, {(0, "l0"): proven})))
        without = check(render(RunSummary.of(run)))
    assert "the share that is proven" in with_proof.text
    assert "50\u00a0% to 75\u00a0%" in with_proof.text
    assert "the share that is proven" not in without.text


def test_one_norm_alone(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], norms=["linf"]) as run:
        page = check(render(RunSummary.of(run)))
    assert "Only one norm was assessed." in page.text


def test_many_classes_show_those_that_break_most(synthetic: ModuleType, tmp_path: Path) -> None:
    labels = tuple(range(40))
    plan = synthetic.Plan("many", predictions=labels, finds=[synthetic.Find("l0", 39, 1, 1)])
    with synthetic.build(
        tmp_path / "run.charpy", [plan], labels=labels, class_names=[f"class {i}" for i in labels]
    ) as run:
        page = check(render(RunSummary.of(run)))
    assert "10 more are in report.json" in page.text
    assert "class 39" in page.text
    assert "class 35" not in page.text


@pytest.fixture
def four(synthetic: ModuleType, tmp_path: Path):
    with synthetic.build(
        tmp_path / "run.charpy", [synthetic.FOUR, synthetic.FRAIL], levels=synthetic.FOUR_LEVELS
    ) as run:
        yield RunSummary.of(run)


def test_four_norms_on_one_page(four: RunSummary) -> None:
    text = render(four)
    page = check(text)
    assert "Dual robustness assessment, L0 and Linf, with L1 and L2" in page.text
    for said in (
        "L2 (1/255 steps)", "128/255 = 0.502", "3060/255 = 12", "not 32-l2-safe", "not 510-l1-safe", "Area L1",
        "L2 distance 100.25/255", "L1 distance 120/255, L2 120", "Do L0 and Linf break the same images?",
        "L0 and Linf, th = 1 to 10; L2, th = 32 to 255; L1, th = 510 to 3060",
    ):  # fmt: skip
        assert said in page.text, said
    charts = re.findall(r'<svg class="chart".*?</svg>', text, flags=re.DOTALL)
    assert len(charts) == 2 * (3 + 1), "L0 with Linf, L2 and L1, and the agreement, of two models"
    assert ["var(--l1)" in chart for chart in charts] == [False, False, True, False] * 2
    assert ["var(--l2)" in chart for chart in charts] == [False, True, False, False] * 2
    assert "th: 1/255 steps of L2 distance; 0 = unperturbed" in charts[1]
    style = text[text.index("<style>") : text.index("</style>")]
    for norm in ("l0", "l1", "l2", "linf"):
        assert style.count(f"--{norm}:") == 2, "a colour by day and one by night"
        assert f".legend .{norm} " in style


def test_the_dual_page_speaks_of_no_other_norm(summary: RunSummary) -> None:
    page = check(render(summary))
    assert "Dual robustness assessment, L0 and Linf" in page.text
    assert "Both norms, level by level" in page.text
    assert "(1/255 steps)" in page.text
    assert "L2 (" not in page.text
    assert "Area L2" not in page.text


@pytest.mark.parametrize("norms", [("l2",), ("l0", "l2"), ("l1", "l2")])
def test_norms_that_are_not_held_against_each_other(synthetic: ModuleType, tmp_path: Path, norms: tuple) -> None:
    levels = {norm: synthetic.FOUR_LEVELS[norm] for norm in norms}
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FOUR], levels=levels) as run:
        page = check(render(RunSummary.of(run)))
    assert f"Robustness assessment, {' and '.join(norm.upper() for norm in norms)}" in page.text
    assert "Dual" not in page.text
    reason = "Only one norm was assessed." if len(norms) == 1 else "this run does not have both"
    assert reason in page.text


def test_a_search_under_l2_has_a_curve_over_the_whole_range(synthetic: ModuleType, tmp_path: Path) -> None:
    plan = synthetic.Plan("deep", finds=[synthetic.Find("l2", 2, 64, 40.3)])
    with synthetic.build(
        tmp_path / "run.charpy", [plan], levels={"l2": "minimal"}, shape=(3, 32, 32), probes=(64, 8)
    ) as run:
        text = render(RunSummary.of(run))
        points = curve_points(RunSummary.of(run).assessments[0])
    check(text)
    assert "8 to 64, searched" in text
    assert points[-1].th == 14133, "255 * sqrt(3072)"
    assert 150 < len(points) <= 257, "evenly spaced on the axis, and no more than one can see"
    values = {point.th: point.value for point in points}
    assert {value for th, value in values.items() if th < 41} == {7 / 8}
    assert {value for th, value in values.items() if th >= 41} == {6 / 8}


def test_every_indicator_stands_beside_its_limit_and_those_that_fired_say_what_to_do(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], drills=synthetic.DRILLS) as run:
        summary = RunSummary.of(run)
        page = check(render(summary))
    text = re.sub(r"\s+", " ", page.text)
    assert "Can these figures be trusted?" in text
    assert "3 of 8 (38 %)" in text
    assert "8 of 8 (100 %)" in text
    for part in summary.assessments[0].indicators:
        assert part.finding in text or any(cell.get("title") == part.finding for cell in page.all("td"))
        assert not part.fired or part.advice[1:] in text
    grades = [span["class"] for span in page.all("span") if (span.get("class") or "").startswith("grade ")]
    assert grades.count("grade weak") == 4 + 1  # each Linf level in the table, and all of them in the section
    assert grades.count("grade supported") == 4 + 1


def test_hostile_attack_names_are_inert_in_findings(synthetic: ModuleType, tmp_path: Path) -> None:
    drills = [{**drill, "attack": HOSTILE, "failure": HOSTILE} for drill in synthetic.DRILLS]
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], drills=drills) as run:
        text = render(RunSummary.of(run))
    check(text)
    assert "\x1b" not in text
    assert "\u202e" not in text
