"""`charpy study analyse`: the page is inert and says what the document says, and the command's files and exit codes."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest

from charpy.cli.app import run_program
from charpy.reports.figures import percent
from charpy_plugins.study.analysis.analyse import analysed
from charpy_plugins.study.analysis.document import EquivalencePart, Figure, StudyAnalysis
from charpy_plugins.study.export.human_labels import human_labels
from charpy_plugins.study.export.responses_file import responses_bytes
from charpy_plugins.study.pages import figures
from charpy_plugins.study.pages.html import render_page
from charpy_plugins.study.pages.schema import analysis_schema
from charpy_plugins.study.pages.view import galleries, matrices, measured
from charpy_plugins.study.responses import Responses
from charpy_plugins.study.simulation import population
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import write_study

pytestmark = pytest.mark.filterwarnings("ignore:The Result.tuples")  # of the database driver

PAPER = {"benign": 0.95, "imperceptible": 0.9, "perceptible": 0.1}
FILES = {
    "analysis.html", "analysis.json", "participants.csv", "answers.csv", "stimuli.csv", "codebook.md", "responses.json",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "</style><script>alert(1)</script>",
    "<a href=javascript:alert(1)>x</a>",
    "\u202egnp.exe",
    "\x1b[31mred",
    "&lt;b&gt;",
    "</title><script src=//x></script>",
]


class Tags(HTMLParser):
    """Every tag, attribute and the text of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def found(study):
    people = population(study.document, PAPER, 20, seed=0, careless=0.1, dropout=0.1)
    return analysed(study.document, people, draws=200, models=False)


@pytest.fixture(scope="module")
def page(study, found):
    return render_page(study, found, human_labels(study.document, found))


def test_the_page_says_what_the_document_says(study, found, page):
    text = " ".join(Tags(page).text)
    for part in found.conditions:
        assert percent(part.accuracy.value) in text
        assert figures.points(part.confidence.value) in text
        assert figures.share_interval(part.accuracy.low, part.accuracy.high) in text
    for part in found.comparisons:
        assert f"{part.second} \u2212 {part.first}" in text
        for test in part.tests:
            assert test.title in text
            assert figures.p_value(test.p) in text
    for part in found.excluded:
        assert part.participant in text
        assert part.reasons[0] in text
    for part in found.hypotheses:
        assert part.verdict in text
        assert part.sentence.replace(f" ({found.simulated})", "") in text
    assert page == render_page(study, found, human_labels(study.document, found))


def test_every_part_of_a_simulated_page_says_so(study, found, page):
    text = page.decode()
    assert "<title>SIMULATED. " in text
    assert found.simulated in text
    assert all("SIMULATED" in caption for caption in re.findall(r"<caption[^>]*>(.*?)</caption>", text, re.DOTALL))
    assert all("SIMULATED" in caption for caption in re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL))
    people = render_page(
        study, found.model_copy(update={"simulated": ""}), human_labels(study.document, found)
    ).decode()
    assert "SIMULATED" not in people
    assert 'class="simulated"' not in people


def test_the_page_is_offline_and_without_script(page):
    tags = Tags(page)
    assert not tags.tags & {"script", "iframe", "object", "embed", "form", "link", "base", "video", "audio"}
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    links = [value for name, value in tags.attributes if name in {"href", "src", "action", "xlink:href"}]
    assert all(re.match(r"#|data:image/png;base64,|codebook\.md$", value) for value in links)
    assert "url(http" not in page.decode()
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in tags.attributes
    ids = [value for name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = [value for name, value in tags.attributes if name == "aria-labelledby"]
    assert set(named) <= set(ids)


def test_hostile_names_are_shown_and_do_nothing(make_study, page):
    hostile = make_study(
        originals=10,
        original_names=lambda number: HOSTILE[number],
        labels=tuple(HOSTILE),
        questions=10,
        name=HOSTILE[4],
    )
    people = population(hostile.document, PAPER, 6, seed=0)._replace(simulated=HOSTILE[1])
    analysis = analysed(hostile.document, people, draws=200, models=False)
    made = render_page(hostile, analysis, human_labels(hostile.document, analysis))
    tags = Tags(made)
    assert tags.tags == Tags(page).tags
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    text = "".join(tags.text)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}{% raw %}" in text
    assert "[U+202E]gnp.exe" in text
    assert "\x1b" not in made.decode()
    assert "\u202e" not in made.decode()


def test_the_gallery_has_the_images_that_were_labelled_correctly_least_often(study, found):
    for gallery in galleries(study, found, 4):
        shares = sorted(part.correct / part.answers for part in gallery.condition.votes if part.answers)
        assert [card.part.correct / card.part.answers for card in gallery.cards] == shares[:4]
        for card in gallery.cards:
            png = base64.b64decode(card.image.removeprefix("data:image/png;base64,"))
            assert png == study.images[card.stimulus.id, 1]
            assert sum(vote.votes for vote in card.votes) + card.others == card.part.answers
            assert bool(card.original) == (gallery.condition.name != "benign")
            if card.original:
                benign = next(one for one in study.document.of("benign") if one.original == card.stimulus.original)
                png = base64.b64decode(card.original.removeprefix("data:image/png;base64,"))
                assert png == study.images[benign.id, 1]
    assert galleries(study, found, 0) == []


def test_the_matrices_count_every_answer(found):
    for matrix in matrices(found):
        assert sum(total for _, total, _ in matrix.rows) == matrix.condition.answers
        for _, total, cells in matrix.rows:
            assert sum(count for count, _ in cells) == total
            assert sum(share for _, share in cells) == pytest.approx(1)
    many = found.model_copy(update={"labels": tuple(map(str, range(26)))})
    assert matrices(many) == []


def test_where_the_papers_test_and_the_primary_one_disagree(found):
    part = found.comparisons[0]
    paper = part.paper.model_copy(update={"significant": True})
    primary = part.primary.model_copy(update={"significant": False})
    other = part.model_copy(update={"tests": (paper, primary)})
    assert figures.disagreement(other) == "The paper's test finds a difference here, the primary one does not."
    assert len(measured(found.model_copy(update={"comparisons": (other,)}))[0].differing) == 1
    same = part.model_copy(update={"tests": (paper, primary.model_copy(update={"significant": True}))})
    assert figures.disagreement(same) == ""


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "\u2013"), (0.0, "<\u00a00.001"), (0.0009, "<\u00a00.001"), (0.05, "0.050"), (0.9999, ">\u00a00.999"),
     (1.0, "1.000")],
)  # fmt: skip
def test_p_values_as_written(p, text):
    assert figures.p_value(p) == text


def test_differences_as_written():
    assert figures.difference(0.0436, "accuracy") == "+4.4"
    assert figures.difference(-0.284, "confidence") == "\u22120.28"
    assert figures.difference(-0.0001, "accuracy") == "0.0"
    assert figures.difference(None, "accuracy") == "\u2013"
    none = Figure(value=None, unit="participant", count=0, reason="nobody")
    assert figures.figure_text(none, "accuracy") == ("\u2013", "\u2013")
    part = EquivalencePart(margin=0.1, low=None, high=None, p=None, p_holm=None, equivalent=None, unit="participants")
    assert figures.equivalence_text(part, "accuracy") == "\u2013"
    assert (
        figures.equivalence_text(part.model_copy(update={"equivalent": True}), "accuracy") == "alike within 10\u00a0%"
    )


def test_the_command_writes_everything(study, tmp_path, capsys):
    file, out = tmp_path / "digits.study", tmp_path / "out"
    write_study(study, file)
    people = population(study.document, PAPER, 8, seed=0)
    with_store = Store.open(f"{file}.simulated.sqlite", study.document, create=True, simulated=people.simulated)
    with_store.write(people)
    with_store.close()
    quick = ["--draws", "200", "--without-models"]
    arguments = ["study", "analyse", str(file), "--answers", f"{file}.simulated.sqlite", *quick, "--out", str(out)]
    assert run_program(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("SIMULATED, no person answered: accuracies 0.95")
    assert said.count("SIMULATED: ") == 3
    assert {path.name for path in out.iterdir()} == {
        *FILES, "SIMULATED_human_labels.csv", "SIMULATED_originals", "SIMULATED_changed"
    }  # fmt: skip
    document = json.loads((out / "analysis.json").read_text())
    jsonschema.validate(document, analysis_schema())
    assert StudyAnalysis.model_validate(document).simulated == people.simulated
    first = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = [*arguments[:3], "--answers", str(out / "responses.json"), *quick, "--out", str(tmp_path / "again")]
    assert run_program(again) == 0
    second = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir() if path.is_file()}
    assert first == second


def test_nobody_is_included(study, tmp_path, capsys):
    file, out = tmp_path / "digits.study", tmp_path / "out"
    write_study(study, file)
    (tmp_path / "none.json").write_bytes(responses_bytes(study.document, Responses((), ())))
    arguments = ["study", "analyse", str(file), "--answers", str(tmp_path / "none.json"), "--draws", "200"]
    assert run_program([*arguments, "--out", str(out)]) == 3
    assert "Nobody is included in benign" in capsys.readouterr().out
    assert b"<svg class" not in (out / "analysis.html").read_bytes()


def test_a_study_of_one_condition_has_nothing_to_compare(make_study):
    whole = make_study(originals=10, questions=10)
    only = whole.document.model_copy(
        update={"conditions": whole.document.conditions[:1], "stimuli": whole.document.of("benign")}
    )
    people = population(only, {"benign": 0.9}, 5, seed=0)
    analysis = analysed(only, people, draws=200, models=False)
    study = whole._replace(document=only)
    text = render_page(study, analysis, human_labels(only, analysis)).decode()
    assert 'id="tests"' not in text
    assert "there is nothing to compare" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected: a study file"),
        (["STUDY"], "no answers are here"),
        (["STUDY", "--gallery", "-1"], "--gallery: out of range"),
        (["STUDY", "--answers", "mysql://x"], "no such kind of database"),
        (["none.study"], "no such study file"),
    ],
)
def test_what_the_command_refuses(study, tmp_path, capsys, arguments, said):
    write_study(study, tmp_path / "digits.study")
    words = [str(tmp_path / "digits.study") if word == "STUDY" else word for word in arguments]
    assert run_program(["study", "analyse", *words, "--out", str(tmp_path / "out")]) == 2
    assert re.sub(r"\s+", " ", said) in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_schema_is_printed(capsys):
    assert run_program(["study", "analyse", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == analysis_schema()


def test_the_page_claims_nothing_of_when_a_margin_was_chosen_and_says_where_tests_are_too_ready(study, found):
    said = " ".join(Tags(render_page(study, found, human_labels(study.document, found), gallery=0)).text)
    assert "chosen beforehand" not in said
    for words in (
        "this page cannot know",
        "in 6 to 9 % of studies instead of 5",
        "not corrected for several comparisons",
    ):
        assert words in said
