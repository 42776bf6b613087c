"""What leaves a study: every figure recomputed from the CSVs, cells that no spreadsheet runs, labels for perceive."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from charpy.cli.app import run_program
from charpy.errors import SpecError
from charpy.reports.table import Column, Table, cell, code_book
from charpy_plugins.study.analysis.analyse import analysed
from charpy_plugins.study.export.codebook import codebook
from charpy_plugins.study.export.folders import write_folders
from charpy_plugins.study.export.human_labels import VOTES, human_labels, human_table, pictures
from charpy_plugins.study.export.responses_file import responses_bytes
from charpy_plugins.study.export.tables import tables
from charpy_plugins.study.responses import Answer, Participant, Responses, State
from charpy_plugins.study.simulation import population
from charpy_plugins.study.studyfile import write_study

PAPER = {"benign": 0.95, "imperceptible": 0.9, "perceptible": 0.1}
INJECTIONS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1,1)",
    "\t=1+1",
    "\r=1+1",
    "  =cmd|' /C calc'!A0",
    '=HYPERLINK("http://x","y")',
    "\uff1d1+1",
    "'=1+1",
    "x;=1+1",
    'a",=1+1',
    "\n=1+1",
    "\u202e=1+1",
]


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode()), strict=True))


@pytest.fixture(scope="module")
def found(study):
    people = population(study.document, PAPER, 25, seed=0, careless=0.1, dropout=0.1)
    return people, analysed(study.document, people, draws=200, models=False)


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_cell_is_inert_and_can_be_undone(text):
    raw = cell(text)
    read = next(csv.reader([raw], strict=True))[0]
    assert read.lstrip()[:1] not in {"=", "+", "-", "@", "\uff1d"}
    assert not {"\t", "\r", "\n"} & set(raw)
    for delimiter in ",;|\t":  # of a spreadsheet of another country
        every = next(csv.reader([raw], delimiter=delimiter, strict=True))
        assert [part.lstrip()[:1] in {"=", "+", "-", "@"} for part in every] == [False]
    undone = read[1:] if read.startswith("'") else read
    shown = re.sub(r"[\t\r\n\u202e]", lambda match: f"[U+{ord(match[0]):04X}]", text)
    assert undone == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (-3, "-3"), (-0.25, "-0.25"), (1 / 3, "0.3333333333"), (True, "yes"), (False, "no"), ("", ""),
     ("plain", "plain"), ("a,b", '"a,b"'), ('say "x"', '"say ""x"""'), ("Zürich 7", "Zürich 7")],
)  # fmt: skip
def test_numbers_and_plain_texts_stay_what_they_are(value, text):
    assert cell(value) == text


def test_a_table_is_utf8_with_lf():
    columns = [Column("=name", lambda row: row, "what"), Column("n", len, "length")]
    assert Table("t.csv", "", columns, ["é", "=x"]).csv() == "'=name,n\né,1\n'=x,2\n".replace(
        "'", "'"
    ).encode().replace(b"'=name", b'"\'=name"').replace(b"'=x", b'"\'=x"')


def test_the_figures_follow_from_the_files(study, found):
    people, analysis = found
    persons, answers, stimuli = (rows_of(table.csv()) for table in tables(study.document, people, analysis))
    assert len(persons) == len(people.participants)
    assert len(answers) == len(people.answers)
    for part, flow in zip(analysis.conditions, analysis.flow, strict=True):
        own = [row for row in persons if row["condition"] == part.name and row["included"] == "yes"]
        assert len(own) == flow.included
        assert np.mean([float(row["accuracy"]) for row in own]) == pytest.approx(part.accuracy.value)
        assert np.mean([float(row["confidence"]) for row in own]) == pytest.approx(part.confidence.value)
        assert np.median([float(row["seconds"]) for row in own]) == pytest.approx(part.seconds.value, rel=1e-6)
        given = [row for row in answers if row["condition"] == part.name and row["included"] == "yes"]
        given = [row for row in given if row["check"] == "no"]
        votes = defaultdict(Counter)
        for row in given:
            votes[row["stimulus"]][row["label"]] += 1
            assert row["correct"] == str(int(row["label"] == row["truth"]))
            assert study.document.labels[int(row["label"])] == row["label_text"]
        shown = [row for row in stimuli if row["condition"] == part.name]
        assert len(shown) == len(study.document.of(part.name))
        right = 0
        for row in shown:
            counted = votes[row["stimulus"]]
            assert {str(k): int(row[f"votes_{k}"]) for k in range(10) if int(row[f"votes_{k}"])} == counted
            best = counted.most_common(2)
            alone = len(best) == 1 or best[0][1] > best[1][1]
            assert row["majority"] == (best[0][0] if alone else "")
            right += row["majority"] == row["truth"]
        assert right == part.majority.share.count
    out = [row for row in persons if row["reasons"]]
    assert {row["participant"] for row in out} == {part.participant for part in analysis.excluded}
    assert all(row["included"] == "no" for row in out)


def test_everything_says_simulated(study, found):
    people, analysis = found
    labels = human_labels(study.document, analysis)
    pairs = human_table(study.document, labels.pairs, simulated=True)
    every = (*tables(study.document, people, analysis), pairs)
    for table in every:
        assert {row["simulated"] for row in rows_of(table.csv())} == {"SIMULATED"}
    assert "**SIMULATED: no person answered." in codebook(study.document, analysis.simulated, every).decode()
    assert set(pictures(study, labels.pairs, simulated=True)) == {"SIMULATED_originals", "SIMULATED_changed"}
    assert pairs.name == "SIMULATED_human_labels.csv"
    real = analysed(study.document, people._replace(simulated=""), draws=200, models=False)
    for table in tables(study.document, people._replace(simulated=""), real):
        assert {row["simulated"] for row in rows_of(table.csv())} == {"no"}


def test_the_code_book_names_every_column(study, found):
    people, analysis = found
    labels = human_labels(study.document, analysis)
    every = (*tables(study.document, people, analysis), human_table(study.document, labels.pairs, simulated=False))
    text = codebook(study.document, "", every).decode()
    sections = dict(re.findall(r"^## (\S+\.csv)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {table.name for table in every}
    for table in every:
        header = table.csv().decode().split("\n", 1)[0].split(",")
        listed = re.findall(r"^\| `([^`]+)` \|", sections[table.name], re.MULTILINE)
        assert listed == header
        lines = [line for line in sections[table.name].splitlines() if line.startswith("| `")]
        assert all(line.count("|") == 6 and "|  |" not in line for line in lines)


def test_hostile_names_are_inert_in_every_file(make_study):
    hostile = make_study(
        originals=len(INJECTIONS),
        original_names=lambda number: INJECTIONS[number],
        labels=tuple(INJECTIONS[:10]),
        questions=10,
        name="=cmd|' /C calc'!A0 <script>alert(1)</script>",
    )
    document = hostile.document
    people = population(document, PAPER, 12, seed=0)
    people = people._replace(
        participants=tuple(one._replace(consent_version="@SUM(1)") for one in people.participants), simulated=""
    )
    analysis = analysed(document, people, draws=200, models=False)
    labels = human_labels(document, analysis)
    pairs = human_table(document, labels.pairs, simulated=False)
    for table in (*tables(document, people, analysis), pairs):
        data = table.csv().decode()
        assert data.count("\n") == len(table.rows) + 1
        assert "\r" not in data
        for row in csv.reader(io.StringIO(data), strict=True):
            assert len(row) == len(table.columns)
            for value in row:
                number = re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", value)
                assert number or value.lstrip()[:1] not in {"=", "+", "-", "@", "\uff1d", "\t", "\r"}
    text = codebook(document, "", (pairs,)).decode()
    assert "<script" not in text
    assert all(re.fullmatch(r"\d{3}/[a-z]+-[0-9a-f]{16}\.png", pair.file) for pair in labels.pairs)


def one_vote(study, stimulus, label, person):
    name = f"p{person}-{stimulus.condition}"
    answer = Answer(name, stimulus.condition, 0, stimulus.id, stimulus.original, stimulus.label, label, 4, 5.0, 20.0)
    return Participant(name, stimulus.condition, State.FINISHED, "1", 0.0, 20.0, 20.0), answer


def test_human_labels_by_hand(make_study):
    study = make_study(originals=4, questions=1, checks=0)
    benign, changed = study.document.of("benign"), study.document.of("perceptible")
    said = {
        benign[0].id: [5, 5, 5, 3], changed[0].id: [5, 8, 8, 8, 5],  # benign majority 5: 2 of 5 say the same
        benign[1].id: [1, 1, 2, 2], changed[1].id: [1, 1, 1],  # a tie
        benign[2].id: [2, 2], changed[2].id: [2, 2, 2],  # too few
    }  # fmt: skip
    stimuli = {one.id: one for one in study.document.stimuli}
    rows = [
        one_vote(study, stimuli[name], label, f"{name}-{place}")
        for name, labels in said.items()
        for place, label in enumerate(labels)
    ]
    responses = Responses(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
    labels = human_labels(study.document, analysed(study.document, responses, draws=200, models=False))
    assert VOTES == 3
    assert [(pair.stimulus.id, pair.same, pair.answers) for pair in labels.pairs] == [(changed[0].id, 2, 5)]
    assert (labels.no_benign, labels.no_majority) == (0, 1)
    assert labels.few_votes == 2 + 4  # perceptible 2 and 3; imperceptible was shown to nobody
    assert "6 with fewer than 3 votes" in labels.left_out
    row = rows_of(human_table(study.document, labels.pairs, simulated=False).csv())[0]
    assert row["same"] == "2/5"
    assert row["benign_label"] == "5"
    folders = pictures(study, labels.pairs, simulated=False)
    assert folders["originals"][row["original"]] == study.images[benign[0].id, 1]
    assert folders["changed"][row["changed"]] == study.images[changed[0].id, 1]


def test_folders_replace_their_own_and_nothing_else(tmp_path):
    first = {"originals": {"001/benign-00000000000000aa.png": b"1", "002/benign-00000000000000ab.png": b"2"}}
    second = {"originals": {"001/benign-00000000000000aa.png": b"3"}}
    write_folders(first, tmp_path)
    write_folders(second, tmp_path)
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert kept == {"originals/001/benign-00000000000000aa.png"}
    (tmp_path / "originals" / "holiday.jpg").write_text("mine")
    with pytest.raises(SpecError, match=r"holiday\.jpg"):
        write_folders(first, tmp_path)
    assert (tmp_path / "originals" / "holiday.jpg").read_text() == "mine"
    write_folders({"changed": {}}, tmp_path)
    assert not (tmp_path / "changed").exists()


def test_perceive_reads_what_people_said(study, found, tmp_path, capsys):
    people, _ = found
    people = people._replace(simulated="")
    write_study(study, tmp_path / "digits.study")
    (tmp_path / "responses.json").write_bytes(responses_bytes(study.document, people))
    out = tmp_path / "out"
    arguments = ["--answers", str(tmp_path / "responses.json"), "--draws", "200", "--without-models"]
    assert run_program(["study", "analyse", str(tmp_path / "digits.study"), *arguments, "--out", str(out)]) == 0
    rows = rows_of((out / "human_labels.csv").read_bytes())
    votes = [tuple(map(int, row["same"].split("/"))) for row in rows]
    capsys.readouterr()
    perceived = ["--originals", str(out / "originals"), "--changed", str(out / "changed"), "--metrics", "l0_pixels,l2"]
    more = ["--rotation", "0", "--shift", "0", "--scale", "0", "--brightness", "0", "--eps", "", "--blends", ""]
    named = ["--answers", str(out / "human_labels.csv"), "--out", str(tmp_path / "perceived")]
    assert run_program(["perceive", *perceived, *more, *named]) == 0
    document = json.loads((tmp_path / "perceived" / "perceive.json").read_text())
    assert document["labels"] == "answers"
    assert document["alike"] == sum(2 * same > total for same, total in votes)
    assert document["different"] == sum(2 * same < total for same, total in votes)


def test_a_backslash_before_a_bar_does_not_end_a_cell_of_the_code_book():
    columns = [Column("votes", lambda row: row, "answers with label 0, a\\|b")]
    line = code_book([], [Table("x.csv", "About.", columns, [])]).decode().splitlines()[-1]
    assert re.sub(r"\\.", "", line).count("|") == 6  # Markdown takes a backslash with what follows it
