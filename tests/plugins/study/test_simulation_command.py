"""`charpy study simulate`, and the file of responses that it writes."""

from __future__ import annotations

import json

import pytest

from charpy.cli.app import run_program
from charpy.errors import CharpyError, DataError
from charpy_plugins.study.addresses import shown_address
from charpy_plugins.study.export.responses_file import read_responses, responses_bytes
from charpy_plugins.study.export.source import responses_of
from charpy_plugins.study.simulation import population
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import write_study

pytestmark = pytest.mark.filterwarnings("ignore:The Result.tuples")  # of the database driver

PAPER = {"benign": 0.95, "imperceptible": 0.97, "perceptible": 0.03}


@pytest.fixture
def study_file(study, tmp_path):
    path = tmp_path / "digits.study"
    write_study(study, path)
    return path


def test_the_file_gives_back_what_it_was_given(study, tmp_path):
    found = population(study.document, PAPER, 4, seed=0, dropout=0.5)
    path = tmp_path / "responses.json"
    path.write_bytes(responses_bytes(study.document, found))
    assert read_responses(path, study.document) == found
    assert json.loads(path.read_text())["simulated"] == found.simulated
    empty = found._replace(participants=(), answers=(), simulated="")
    path.write_bytes(responses_bytes(study.document, empty))
    assert read_responses(path, study.document) == empty


def test_the_command_writes_a_population(study, study_file, capsys):
    arguments = [
        "study",
        "simulate",
        str(study_file),
        "--accuracies",
        "benign=0.95,imperceptible=0.97,perceptible=0.03",
    ]
    assert run_program([*arguments, "--participants", "7,5,6", "--confidences", "4.5,4.4,4.2", "--seed", "2"]) == 0
    said = capsys.readouterr()
    path = study_file.with_name("digits.study.simulated.json")
    assert said.out.strip() == str(path)
    assert "SIMULATED, not people" in said.err
    wanted = {"benign": 7, "imperceptible": 5, "perceptible": 6}
    means = {"benign": 4.5, "imperceptible": 4.4, "perceptible": 4.2}
    assert read_responses(path, study.document) == population(study.document, PAPER, wanted, seed=2, confidences=means)
    assert run_program([*arguments, "--participants", "7"]) == 0  # simulated answers may be replaced


def test_what_is_no_simulated_answer_is_not_written_over(study, study_file, capsys, tmp_path):
    people = population(study.document, PAPER, 2, seed=0)._replace(simulated="")
    path = tmp_path / "answers.json"
    path.write_bytes(responses_bytes(study.document, people))
    before = path.read_bytes()
    arguments = ["study", "simulate", str(study_file), "--accuracies", "0.9", "--out", str(path)]
    assert run_program(arguments) == 2
    assert "people's answers are there" in capsys.readouterr().err
    assert path.read_bytes() == before
    path.write_text("notes")
    assert run_program(arguments) == 2
    assert path.read_text() == "notes"


def test_into_a_database(study, study_file, capsys, tmp_path):
    path = tmp_path / "made-up.sqlite"
    arguments = ["study", "simulate", str(study_file), "--accuracies", "0.95,0.97,0.03", "--participants", "3"]
    assert run_program([*arguments, "--out", str(path)]) == 0
    found, made = responses_of(str(path), study.document), population(study.document, PAPER, 3, seed=0)
    assert found.simulated == made.simulated
    assert sorted(found.participants) == sorted(made.participants)
    assert sorted(found.answers) == sorted(made.answers)
    assert run_program([*arguments, "--out", str(path)]) == 2
    assert "answers are there already" in capsys.readouterr().err


def test_a_database_of_people_takes_no_simulated_answers(study, study_file, capsys, tmp_path):
    path = tmp_path / "people.sqlite"
    store = Store.open(path, study.document, create=True)
    person = store.join("1").participant
    store.close()
    arguments = ["study", "simulate", str(study_file), "--accuracies", "0.9", "--out", str(path)]
    assert run_program(arguments) == 2
    assert "made-up answers and those of people" in capsys.readouterr().err
    assert responses_of(str(path), study.document).participants == (person,)


def test_a_password_is_not_shown():
    assert shown_address("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown_address("a:b@c.sqlite") == "a:b@c.sqlite"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--accuracies", "benign=0.9"], "none for imperceptible"),
        (["--accuracies", "0.9,0.8"], "another number of conditions"),
        (["--accuracies", "bengn=0.9"], "did you mean benign?"),
        (["--accuracies", "benign=high"], "not a number"),
        (["--accuracies", "benign=0.9,benign=0.8"], "a condition twice"),
        (["--accuracies", "0.9", "--participants", "3.5"], "a whole number"),
        (["--accuracies", "1.9"], "out of range"),
        (["--accuracies", "0.9", "--careless", "2"], "careless: out of range"),
    ],
)
def test_arguments_that_are_refused(study_file, capsys, arguments, said):
    assert run_program(["study", "simulate", str(study_file), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["answers"][0].update(label=10), "no label of the study"),
        (lambda data: data["answers"][0].update(participant="x"), "nobody of that id"),
        (lambda data: data["answers"][0].update(condition="perceptible"), "an answer of nobody"),
        (lambda data: data["answers"][0].update(stimulus="f" * 16), "no image of the condition"),
        (lambda data: data["answers"][1].update(position=0), "two answers at one place"),
        (lambda data: data["answers"][0].update(confidence=6), "less than or equal to 5"),
        (lambda data: data["answers"][0].update(truth=(data["answers"][0]["truth"] + 1) % 10), "another true class"),
        (lambda data: data["participants"][1].update(id=data["participants"][0]["id"]), "there twice"),
        (lambda data: data["participants"][0].update(condition="x"), "of no condition"),
        (lambda data: data.update(fingerprint="0"), "answers to another study"),
        (lambda data: data.update(format="x"), "charpy-study-responses-1"),
        (lambda data: data.update(more=1), "Extra inputs"),
    ],
)
def test_responses_that_cannot_be_are_refused(study, tmp_path, change, said):
    data = json.loads(responses_bytes(study.document, population(study.document, PAPER, 2, seed=0)))
    change(data)
    path = tmp_path / "responses.json"
    path.write_text(json.dumps(data))
    with pytest.raises(CharpyError, match=said):
        read_responses(path, study.document)


def test_no_file_at_all(study, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_responses(tmp_path / "none.json", study.document)
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(DataError, match="no answers of a study"):
        read_responses(tmp_path / "text.json", study.document)
