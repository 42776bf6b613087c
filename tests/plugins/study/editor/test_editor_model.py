"""Whom a painter paints against, how far, and what the command refuses before it serves anything."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from charpy.cli.app import run_program
from charpy.errors import CharpyError, ModelError, SpecError
from charpy.plugins import registry
from charpy.subjects import digest
from charpy_plugins.study.document import Source, Threat
from charpy_plugins.study.editor.budget import budget_of, threat_model
from charpy_plugins.study.editor.display import to_rows
from charpy_plugins.study.editor.model import NOTHING, PaintModel
from charpy_plugins.study.model import model_of
from charpy_plugins.study.studyfile import read_study

STRANGER = {"reference": "", "fingerprint": "", "model": ""}


def white_corner(session, stimulus):
    image = session.pixels(stimulus)
    image[0, 0, 0] = 255
    return image


def test_a_model_that_gives_labels_shows_its_label_and_can_be_painted_against(
    tmp_path, make_study, open_session, enter, stranger
):
    path = make_study(tmp_path / "labels.study", **STRANGER)
    session = open_session(path, reference="strangers_of_study:labels")
    first = session.items()[0].original
    assert first.label == 2
    client, csrf = enter(session)
    painting = white_corner(session, first.id)
    headers = {"X-CSRFToken": csrf}
    told = client.post(
        f"/score/{first.id}", data=to_rows(painting), headers=headers, content_type="application/octet-stream"
    ).json
    assert (told["prediction"], told["name"], told["shares"], told["lead"]) == (0, "0", None, None)
    assert told["hindrance"] == ""
    assert session.save(first.id, painting, "").prediction == 0
    source = read_study(path).document.source
    assert type(model_of(source, registry())) is type(session.model.judge().model)
    assert source.fingerprint == session.model.fingerprint != ""


@pytest.mark.parametrize(("model", "lost"), [("red", False), ("reddest", True)])
def test_what_a_smooth_enlargement_blurs_away_is_not_offered_for_saving(
    tmp_path, make_study, open_session, stranger, model, lost
):
    path = make_study(tmp_path / "rgb.study", channels=3, resampling="bicubic", **STRANGER)
    session = open_session(path, reference=f"strangers_of_study:{model}")
    first = session.items()[0].original
    painting = session.pixels(first.id)
    painting[:, 0, 0] = torch.tensor([255, 0, 0])
    look = session.look(first.id, painting)
    assert look.answer.prediction == 0
    assert look.hindrance == ("classified correctly as shown at size x2, x4" if lost else "")
    if lost:
        with pytest.raises(CharpyError, match="again as shown at size x2, x4"):
            session.save(first.id, painting, "")
    else:
        assert session.save(first.id, painting, "").distance == 1


def test_an_answer_of_nan_makes_no_witness(tmp_path, make_study, open_session, stranger):
    session = open_session(make_study(tmp_path / "nan.study", **STRANGER), reference="strangers_of_study:nan")
    first = session.items()[0].original
    painting = white_corner(session, first.id)
    look = session.look(first.id, painting)
    assert look.answer == NOTHING
    assert "NaN" in look.hindrance
    with pytest.raises(CharpyError, match="NaN"):
        session.save(first.id, painting, "")


def test_a_slow_model_holds_nobody_but_who_asks_it(tmp_path, make_study, open_session, enter, stranger):
    session = open_session(make_study(tmp_path / "slow.study", **STRANGER), reference="strangers_of_study:slow")
    first = session.items()[0].original
    painting = white_corner(session, first.id)
    looks = []
    asking = threading.Thread(target=lambda: looks.append(session.look(first.id, painting)))
    asking.start()
    client, _ = enter(session)
    started = time.monotonic()
    for page in ("/", f"/paint/{first.id}", f"/pixels/{first.id}"):
        assert client.get(page).status_code == 200
    assert time.monotonic() - started < 5
    assert not looks
    stranger.gate.set()
    asking.join()
    assert looks[0].answer.prediction == 5


def test_another_model_needs_the_word_and_is_named_in_the_condition(
    study, open_session, make_study, tmp_path, stranger
):
    with pytest.raises(ModelError, match="--another-model") as caught:
        open_session(study, reference="strangers_of_study:labels")
    assert read_study(study).document.source.fingerprint in str(caught.value)
    session = open_session(study, reference="strangers_of_study:labels", another=True)
    first = session.items()[0].original
    session.save(first.id, white_corner(session, first.id), "")
    document = read_study(study).document
    assert document.source.model == "digits-cnn"
    assert session.model.fingerprint in document.conditions[-1].text


def test_the_fingerprint_is_the_digest_of_what_the_model_is(session):
    assert session.model.fingerprint == digest(registry().create("models", "digits-cnn").fingerprint())


def test_a_defended_model_is_written_as_a_spec():
    source = Source(dataset="digits", shape=(1, 8, 8), class_names=())
    text = '{"reference": "digits-cnn", "defenses": [{"kind": "jpeg"}]}'
    probe = torch.zeros(2, 1, 8, 8)
    defended = PaintModel(source, text, probe, registry(), another=False)
    plain = PaintModel(source, "digits-cnn", probe, registry(), another=False)
    assert defended.fingerprint != plain.fingerprint
    with pytest.raises(SpecError, match="no model spec"):
        PaintModel(source, '{"reference"', probe, registry(), another=False)
    with pytest.raises(SpecError, match="which model"):
        PaintModel(source, None, probe, registry(), another=False)


def test_judging_opens_a_fresh_model(session):
    assert session.model.judge().model is not session.model.judge().model


@pytest.mark.parametrize(
    ("shape", "share", "pixels"),
    [((1, 28, 28), "15%", 117), ((1, 8, 8), "100 %", 64), ((3, 32, 32), "4.48%", 45), ((1, 10, 10), "7%", 7)],
)
def test_a_share_of_the_pixels_is_rounded_down(study, shape, share, pixels):
    document = read_study(study).document
    source = document.source.model_copy(update={"shape": shape, "threat": None})
    assert budget_of(document.model_copy(update={"source": source}), None, None, share) == Threat(
        norm="l0", level=pixels
    )


@pytest.mark.parametrize(
    ("norm", "level", "budget", "words"),
    [
        ("linf", None, "15%", "--budget"),
        (None, 3, "15%", "--budget"),
        (None, None, "0%", "no share"),
        (None, None, "101%", "no share"),
        (None, None, "15", "no share"),
        (None, None, "1%", "less than one pixel"),
        ("l0", 21, None, "narrower"),
        (None, None, "50%", "narrower"),
        ("linf", 8, None, "narrower"),
        ("linf", None, None, "without a level"),
        ("l0", 2.5, None, "whole pixels"),
        ("l0", 0, None, "allows nothing"),
        ("l0", float("nan"), None, "allows nothing"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(study, norm, level, budget, words):
    document = read_study(study).document
    with pytest.raises(SpecError, match=words):
        budget_of(document, norm, level, budget)


def test_a_budget_may_be_narrower_and_is_the_study_s_otherwise(study):
    document = read_study(study).document
    assert budget_of(document, None, None, None) == Threat(norm="l0", level=20)
    assert budget_of(document, None, 5, None) == Threat(norm="l0", level=5)
    assert budget_of(document, "l0", None, None) == Threat(norm="l0", level=20)
    assert threat_model(Threat(norm="linf", level=51)).radius == pytest.approx(0.2)
    bare = document.model_copy(update={"source": document.source.model_copy(update={"threat": None})})
    with pytest.raises(SpecError, match="how far"):
        budget_of(bare, None, None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--condition", "benign"], "kind benign"),
        (["--condition", "Not A Name"], "no name for a condition"),
        (["--model", "digits-embedding"], "fingerprint"),
        (["--model", "nothing-like-it"], "unknown model"),
        (["--level", "99"], "narrower"),
        (["--host", "0.0.0.0"], "not to all of this machine"),
        (["--host", "203.0.113.7"], "no page can be served"),
        (["--port", "99999"], "no page can be served"),
    ],
)
def test_the_command_refuses_before_anything_is_served(study, capsys, arguments, words):
    before = study.read_bytes()
    assert run_program(["study", "edit", str(study), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert study.read_bytes() == before


def test_a_copy_is_painted_where_the_study_is_frozen(study, capsys, monkeypatch):
    answers = study.with_name(f"{study.name}.answers.sqlite")
    answers.write_bytes(b"")
    assert run_program(["study", "edit", str(study)]) == 2
    assert str(answers) in capsys.readouterr().err
    monkeypatch.setattr("charpy_plugins.study.editor.server.Service.run", lambda self: self.close())
    copy = study.with_name("new.study")
    assert run_program(["study", "edit", str(study), "--out", str(copy)]) == 0
    assert copy.read_bytes() == study.read_bytes()
    assert "0 of 4 originals are painted" in capsys.readouterr().out
    assert run_program(["study", "edit", str(study), "--out", str(copy)]) == 2
    assert "a new file" in capsys.readouterr().err


def test_a_missing_extra_is_named(study, capsys, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "waitress" else found(name))
    assert run_program(["study", "edit", str(study)]) == 2
    error = capsys.readouterr().err
    assert "waitress" in error
    assert "charpy[study]" in error


def test_the_help_loads_neither_flask_nor_torch():
    import subprocess
    import sys

    code = (
        "import sys; from charpy.cli.app import run_program; run_program(['study', '--help']);"
        "sys.exit(sum(name in sys.modules for name in ('flask', 'torch', 'waitress')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
