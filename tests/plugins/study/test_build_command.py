"""`charpy study build` on the command line: its spec, its texts, what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import jsonschema
import pytest

from charpy.errors import SpecError, UnknownNameError
from charpy.specfile import read_mapping
from charpy_plugins.study.build.spec import read_build_spec
from charpy_plugins.study.build.texts import placeholders, written
from charpy_plugins.study.document import Kind
from charpy_plugins.study.studyfile import read_study

WHOLE = """\
name: digits, twice
seed: 3
stimuli: 12
balanced: true
questions: 6
checks: 1
sizes: [1, 3]
resampling: bicubic
dropout_minutes: 20
labels: [zero, one, two, three, four, five, six, seven, eight, nine]
conditions:
  benign:
  close: {attacks: [imperceptible], metric: l2, pick: nearest, bounds: {linf: {most: 60}}, text: close ones}
  painted: {text: painted by a colleague}
texts:
  title: Digits
  consent: {text: "I agree, says [[who]]."}
  scale: ["not at all", a little, somewhat, quite, very]
fill: {who: "I", contact: a@example.org}
exclusion: {failed_checks: 1, fastest_median: 0.5}
"""
FACTS = {"questions": 25, "checks": 2, "sizes": 3, "labels": 10}


@pytest.fixture
def build(charpy, study_run):
    def run(*arguments):
        return charpy("study", "build", study_run, *arguments)

    return run


def test_the_command_of_the_issue(build, tmp_path):
    options = ("--conditions", "benign,imperceptible,perceptible", "--stimuli", 30, "--out", "digits.study")
    done = build(*options)
    assert done.code == 0, done.err
    found = read_study(tmp_path / "digits.study").document
    assert found.name == "digits"
    rows = [re.split(r" *│ *", line.strip("│ ")) for line in done.out.splitlines() if line.startswith("│")]
    assert [row[:4] for row in rows] == [
        ["benign", "benign", "38", "30"],
        ["imperceptible", "witness", "38", "30"],
        ["perceptible", "witness", "38", "30"],
    ]
    values = [stimulus.metrics["ssim"] for stimulus in found.of("perceptible")]
    mean = sum(values) / 30
    deviation = (sum((value - mean) ** 2 for value in values) / 29) ** 0.5
    assert rows[2][4:] == ["60.0/255 ± 0.0/255", f"{mean:.3f} ± {deviation:.3f}"]
    assert rows[0][4:] == ["-", "-"]
    assert "left out of benign: 8: not among the 30 drawn with seed 0" in done.out
    classes = next(line for line in done.out.splitlines() if line.startswith("classes in benign, imperceptible, perc"))
    assert sum(int(count) for count in re.findall(r"\d+: (\d+)", classes)) == 30
    assert "to be filled in before anybody is asked: [[researcher]], [[institution]]" in done.out
    assert done.out.rstrip().endswith("digits.study")
    before = (tmp_path / "digits.study").read_bytes()
    assert build(*options).code == 0
    assert (tmp_path / "digits.study").read_bytes() == before


def test_another_study_is_not_overwritten(build, tmp_path):
    path = tmp_path / "a.study"
    assert build("--conditions", "benign", "--out", "a.study").code == 0
    before = path.read_bytes()
    done = build("--conditions", "benign", "--seed", 5, "--out", "a.study")
    assert done.code == 2
    assert "another study is there" in done.err
    assert path.read_bytes() == before
    assert build("--conditions", "benign", "--seed", 5, "--out", "a.study", "--force").code == 0
    assert path.read_bytes() != before
    before = path.read_bytes()
    for answers in ("a.study.answers.sqlite", "a.answers.sqlite"):
        (tmp_path / answers).touch()
        done = build("--conditions", "benign", "--out", "a.study", "--force")
        assert done.code == 2
        assert "with answers" in done.err
        assert answers in done.err
        assert path.read_bytes() == before
        (tmp_path / answers).unlink()
    (tmp_path / "b.study").write_text("something else")
    done = build("--conditions", "benign", "--out", "b.study")
    assert done.code == 2
    assert "no study file" in done.err


def test_a_spec_gives_full_control(build, tmp_path):
    (tmp_path / "build.yaml").write_text(WHOLE, encoding="utf-8")
    done = build("--spec", "build.yaml")
    assert done.code == 0, done.err
    assert "to be filled in" not in done.out
    assert "to be painted" in done.out
    found = read_study(tmp_path / "digits-twice.study").document
    assert (found.name, found.seed, found.questions, found.checks, found.sizes) == ("digits, twice", 3, 6, 1, (1, 3))
    assert (found.resampling, found.dropout_minutes, found.labels[7]) == ("bicubic", 20, "seven")
    assert [condition.kind for condition in found.conditions] == [Kind.BENIGN, Kind.WITNESS, Kind.PAINTED]
    assert [condition.text for condition in found.conditions][1:] == ["close ones", "painted by a colleague"]
    assert (found.exclusion.failed_checks, found.exclusion.fastest_median) == (1, 0.5)
    assert found.texts.title == "Digits"
    assert found.texts.consent.text == "I agree, says I."
    assert found.texts.contact == "a@example.org"
    assert found.texts.scale[4] == "very"
    assert len(found.of("close")) == len(found.of("benign")) <= 12
    done = build("--spec", "build.yaml", "--conditions", "benign", "--questions", 5, "--out", "few.study")
    assert done.code == 0, done.err
    few = read_study(tmp_path / "few.study").document
    assert (few.questions, [condition.name for condition in few.conditions]) == (5, ["benign"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conditions: {benign: }\nquestion: 3", "question: unknown field, did you mean 'questions'?"),
        ("conditions: {near: {atacks: [x]}}", "conditions.near.atacks: unknown field, did you mean 'attacks'?"),
        ("conditions: {near: {bounds: {ssim: {lest: 1}}}}", "did you mean 'least'?"),
        ("conditions: {near: {bounds: {ssim: {}}}}", "a bound is `least`, `most`, or both"),
        ("conditions: {near: {bounds: {ssim: {least: 1, most: 0}}}}", "nothing is at least 1 and at most 0"),
        ("conditions: {benign: {pick: nearest}}", "'benign' is benign, so it has no pick"),
        ("conditions: {benign: {metric: ssim}}", "'benign' is benign, so it has no metric"),  # the default, given
        ("conditions: {Benign: }", "conditions.Benign"),
        ("conditions: {}", "conditions"),
        ("conditions: {benign: }\nsizes: [2, 4]", "sizes are distinct and have 1"),
        ("conditions: {benign: }\nlabels: [a, a]", "two labels read the same"),
        ("conditions: {benign: }\nquestions: many", "questions"),
        ("conditions: {benign: }\nresampling: cubic", "resampling"),
        ("seed: 1", "which conditions?"),
    ],
)
def test_a_spec_that_is_not_valid_is_refused(build, tmp_path, text, message):
    (tmp_path / "build.yaml").write_text(text, encoding="utf-8")
    done = build("--spec", "build.yaml")
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.glob("*.study"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "which conditions?"),
        (("--conditions", "benign,,painted"), "an empty entry"),
        (("--conditions", "benign,benign"), "a condition is named twice"),
        (("--conditions", "benign", "--sizes", "1,two"), "not a list of whole numbers"),
        (("--conditions", "benign", "--out", "no/folder.study"), "the study cannot be written"),
        (("--conditions", "benign", "--labels", "a,b"), "as many labels as classes"),
        (("--conditions", "benign", "--questions", "39"), "fewer stimuli than a participant has questions"),
    ],
)
def test_options_that_cannot_be_used(build, options, message):
    done = build(*options)
    assert done.code == 2
    assert message in done.err


def test_options_reach_the_study(build, tmp_path):
    words = "zero,one,two,three,four,five,six,seven,eight,nine"
    options = ("--labels", words, "--sizes", "1,2", "--resampling", "bilinear", "--questions", 3, "--unpaired")
    done = build("--conditions", "benign,perceptible", *options, "--seed", 4, "--out", "o.study")
    assert done.code == 0, done.err
    found = read_study(tmp_path / "o.study").document
    assert (found.labels[2], found.sizes, found.resampling, found.questions, found.seed) == (
        "two",
        (1, 2),
        "bilinear",
        3,
        4,
    )
    assert "conditions hold different originals" in done.out
    assert len(found.of("benign")) > len(found.of("perceptible"))


def test_no_run_and_no_such_run(charpy):
    assert "no run is given" in charpy("study", "build", "--conditions", "benign").err
    assert "no such run file" in charpy("study", "build", "nothing", "--conditions", "benign").err


def test_the_schema_takes_what_the_reader_takes(charpy, tmp_path):
    done = charpy("study", "build", "--schema")
    assert done.code == 0
    schema = json.loads(done.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    (tmp_path / "build.yaml").write_text(WHOLE.replace("benign:\n", "benign: {}\n"), encoding="utf-8")
    jsonschema.validate(read_mapping(tmp_path / "build.yaml"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"conditions": {"benign": {}}, "question": 3}, schema)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from charpy.cli.app import run_program; run_program(['study', 'build', '--help']);"
        "sys.exit(int(bool({'torch', 'flask', 'sqlalchemy', 'statsmodels', 'numpy'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_defaults_follow_from_the_names():
    rules = read_build_spec(None, {}, ("benign", "imperceptible", "perceptible", "painted", "other")).rules
    assert [rule.kind for rule in rules.values()] == ["benign", "witness", "witness", "painted", "witness"]
    picks = {name: rule.pick for name, rule in rules.items() if rule.kind == "witness"}
    assert picks == {"imperceptible": "nearest", "perceptible": "farthest", "other": "nearest"}


def test_the_default_texts_say_what_the_study_is():
    texts = written({}, {}, **FACTS)
    assert "25 images" in texts.instructions
    assert "three sizes" in texts.instructions
    assert "out of ten" in texts.instructions
    assert "choose a certain label" in texts.instructions
    assert "choose a certain label" not in written({}, {}, **{**FACTS, "checks": 0}).instructions
    assert "about 6 minutes" in texts.consent.text  # as in Sharif et al. 2018, section 4.2
    assert not any("{" in text for text in (texts.title, texts.instructions, texts.consent.text))


def test_another_consent_is_another_version():
    first = written({}, {}, **FACTS).consent
    assert first == written({}, {}, **FACTS).consent
    assert first.version != written({}, {"payment": "nothing"}, **FACTS).consent.version
    assert written({"consent": {"version": "v2"}}, {}, **FACTS).consent.version == "v2"


def test_placeholders_are_known_until_they_are_filled_in(built):
    assert placeholders(built.document) == ()
    open_texts = written({"title": "By [[ who ]]", "scale": ("[[low]]", "2", "3", "4", "5")}, {}, **FACTS)
    document = built.document.model_copy(update={"texts": open_texts})
    assert {"who", "low", "institution", "contact"} <= set(placeholders(document))
    some = written({"title": "By [[ who ]]"}, {"who": "A", "contact": "b@example.org"}, **FACTS)
    assert some.title == "By A"
    assert some.contact == "b@example.org"
    assert "b@example.org" in some.consent.text
    with pytest.raises(UnknownNameError, match="did you mean payment"):
        written({}, {"paiment": "x"}, **FACTS)


def test_half_a_character_in_a_spec_is_refused(tmp_path):
    (tmp_path / "build.json").write_text('{"name": "\\ud800", "conditions": {"benign": {}}}')
    with pytest.raises(SpecError):
        read_build_spec(tmp_path / "build.json", {}, None)
