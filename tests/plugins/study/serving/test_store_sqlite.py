"""What only a file can suffer: a full disk, a read-only one, other people's eyes; and whom a draw shows what."""

from __future__ import annotations

import math
import os
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from charpy.errors import DataError, SpecError
from charpy_plugins.study.addresses import shown_address
from charpy_plugins.study.store.connect import address
from charpy_plugins.study.store.draw import chosen_condition, drawn_questions
from charpy_plugins.study.store.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def test_a_full_disk_loses_no_acknowledged_answer(path, document):
    store = Store.open(path, document, create=True)
    participant = store.join("1").participant
    with store._engine.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
    store.close()
    store = Store.open(path, document)
    event.listen(store._engine, "connect", lambda db, _: db.execute(f"PRAGMA max_page_count = {pages + 1}"))
    store._engine.dispose()
    kept = 0

    def go_on(participant):
        nonlocal kept
        for _ in range(100):
            while (question := store.question(participant)) is not None:
                store.answer(participant, question.position, 1, 3)
                kept += 1
            participant = store.join("1").participant

    with pytest.raises(SQLAlchemyError, match="full"):
        go_on(participant)
    store.close()
    assert len(Store.open(path, document).responses().answers) == kept > 0


def test_a_read_only_database_refuses_before_it_acknowledges(path, document):
    store = Store.open(path, document, create=True)
    participant = store.join("1").participant
    event.listen(store._engine, "connect", lambda db, _: db.execute("PRAGMA query_only = ON"))
    store._engine.dispose()
    with pytest.raises(SQLAlchemyError):
        store.answer(participant, 0, 1, 3)
    assert store.responses().answers == ()


def test_only_its_owner_reads_the_file(path, document):
    before = os.umask(0)
    try:
        store = Store.open(path, document, create=True)
        store.join("1")
    finally:
        os.umask(before)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    store.close()


def test_no_token_code_or_id_of_a_panel_is_in_the_file(path, document):
    store = Store.open(path, document, create=True)
    admission = store.join("1", "5e9b9c9b0f9c9c0009c9c9c9", "a-visit-of-a-panel")
    code = store.code(admission.participant.id)
    store.close()
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert admission.participant.id.encode() in content
    for secret in (admission.token, code, code.replace("-", ""), "5e9b9c9b0f9c9c0009c9c9c9", "a-visit-of-a-panel"):
        assert secret.encode() not in content


def test_what_is_no_answers_database_is_left_alone(path, document):
    with pytest.raises(DataError, match="no answers are here"):
        Store.open(path, document)
    assert not path.exists()
    path.write_bytes(b"a letter to my mother" * 100)
    with pytest.raises(DataError):
        Store.open(path, document, create=True)
    assert path.read_bytes() == b"a letter to my mother" * 100
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE letters (text TEXT)")
    db.close()
    with pytest.raises(DataError, match="other tables"):
        Store.open(path, document, create=True)
    with pytest.raises(DataError, match="cannot be made"):
        Store.open(path / "no" / "folder.sqlite", document, create=True)


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "nothing://", "://secret", "postgresql://"]
)
def test_other_databases_are_refused_without_their_password(url):
    with pytest.raises(SpecError) as refused:
        address(url)
    assert "secret" not in str(refused.value)


def test_a_database_that_is_not_there_is_refused_without_its_password(document):
    url = "postgresql://somebody:geheim@127.0.0.1:1/none"
    with pytest.raises(DataError, match="cannot be used") as refused:
        Store.open(url, document, create=True)
    assert "geheim" not in str(refused.value)


def test_checks_show_other_images_and_ask_for_nothing_that_the_image_suggests(document):
    stimuli = {stimulus.id: stimulus for stimulus in document.stimuli}
    asked = Counter()
    places = Counter()
    for _ in range(400):
        rows = drawn_questions(document, "perceptible", {})
        assert [row.position for row in rows] == list(range(27))
        assert rows[0].asked is None
        assert len({row.stimulus for row in rows}) == 27  # nothing twice
        for row in rows:
            stimulus = stimuli[row.stimulus]
            assert stimulus.condition == "perceptible"
            if row.asked is not None:
                assert row.asked not in (stimulus.label, stimulus.prediction)
                asked[row.asked] += 1
                places[row.position] += 1
    assert len(asked) == 10
    assert set(places) == set(range(1, 27))


def test_a_check_repeats_an_image_only_after_it_was_a_question(squares):
    document = squares(25).document  # as many as questions: none is spare
    for _ in range(100):
        rows = drawn_questions(document, "benign", {})
        for row in rows:
            if row.asked is not None:
                before = [one.stimulus for one in rows[: row.position] if one.asked is None]
                assert row.stimulus in before
        assert len({row.stimulus for row in rows if row.asked is not None}) == 2


def test_with_two_labels_a_check_still_asks_for_the_wrong_one(squares):
    from charpy_plugins.study.document import StudyDocument

    data = squares(30).document.model_dump()
    for stimulus in data["stimuli"]:
        stimulus["label"], stimulus["prediction"] = stimulus["label"] % 2, 1 - stimulus["label"] % 2
    document = StudyDocument(**(data | {"labels": ("a", "b")}))
    truth = {stimulus.id: stimulus.label for stimulus in document.stimuli}
    checks = [row for _ in range(50) for row in drawn_questions(document, "benign", {}) if row.asked is not None]
    assert all(row.asked == 1 - truth[row.stimulus] for row in checks)


def test_what_was_given_least_comes_first(document):
    ids = [stimulus.id for stimulus in document.of("benign")]
    seen = dict.fromkeys(ids[:20], 1)
    rows = [row.stimulus for row in drawn_questions(document, "benign", seen) if row.asked is None]
    assert set(ids[20:]) <= set(rows)
    assert rows != sorted(rows, key=ids.index)


def test_ties_are_broken_evenly(document):
    counts = Counter(chosen_condition(document, {}) for _ in range(3000))
    assert all(abs(count - 1000) < 6 * math.sqrt(3000 * 2 / 9) for count in counts.values())
    assert chosen_condition(document, {"benign": 1, "imperceptible": 0, "perceptible": 1}) == "imperceptible"
    assert chosen_condition(document, dict.fromkeys(counts, 5), 5) is None
    assert chosen_condition(document, {"benign": 5, "imperceptible": 5}, 5) == "perceptible"


def test_withdrawn_answers_are_overwritten_in_the_file(path: Path, document):
    store = Store.open(path, document, create=True)
    participant = store.join("1").participant
    store.note("mark", "ZEBRA-CROSSING", participant.id)
    store.withdraw(store.code(participant.id))
    store.close()
    assert b"ZEBRA-CROSSING" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_what_is_withdrawn_is_gone_from_every_file_while_the_server_runs(path: Path, document):
    store = Store.open(path, document, create=True)
    for number in range(3):
        participant = store.join("1", f"person {number}", f"visit {number}").participant
        while (question := store.question(participant)) is not None:
            store.answer(participant, question.position, 1, 3)
    store.note("mark", "ZEBRA-CROSSING", participant.id)
    with store._engine.connect() as db:
        row = db.exec_driver_sql("SELECT * FROM participants WHERE id = ?", (participant.id,)).mappings().one()
    traces = [row[name].encode() for name in ("person", "visit", "token", "code")] + [b"ZEBRA-CROSSING"]
    traces += [struct.pack(">d", row[name]) for name in ("joined", "seen", "finished")]  # as SQLite writes a number

    def found() -> list[int]:
        return [sum(file.read_bytes().count(trace) for file in path.parent.iterdir()) for trace in traces]

    assert min(found()) > 0
    store.withdraw(store.code(participant.id))
    assert found() == [0] * len(traces)
    store.close()


def test_a_withdrawal_counts_whether_or_not_the_log_can_be_emptied(path: Path, document):
    store = Store.open(path, document, create=True)
    participant = store.join("1").participant
    event.listen(store._engine, "connect", lambda db, _: db.execute("PRAGMA busy_timeout = 50"))
    store._engine.dispose()
    other = sqlite3.connect(path)
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM participants").fetchone() == (1,)
    store.withdraw(store.code(participant.id))
    assert [one.state for one in store.responses().participants] == ["withdrawn"]
    other.close()
    store.close()


@pytest.mark.parametrize("joined", [1_700_000_000.25, 0.0, -1.5])
def test_of_who_withdrew_only_the_day_stays(path: Path, document, joined):
    store = Store.open(path, document, create=True, clock=lambda: joined)
    participant = store.join("1").participant
    store.withdraw(store.code(participant.id))
    (left,) = store.responses().participants
    assert (left.joined % 86_400, left.seen, left.finished) == (0, left.joined, None)
    assert 0 <= joined - left.joined < 86_400
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:SECRET@127.0.0.1:1/d",
        "postgresql://me:a:SECRET@127.0.0.1:1/d",
        "postgresql://me:a%2FSECRET%40b@127.0.0.1:1/d",
        "postgresql://127.0.0.1:1/d?user=me&password=SECRET",
        "postgresql:///d?sslpassword=SECRET&host=127.0.0.1&port=1",
    ],
)
def test_no_error_prints_a_password_wherever_it_stands(url, document):
    assert "SECRET" not in shown_address(url)
    assert "***" in shown_address(url)
    with pytest.raises(DataError) as error:
        Store.open(url, document)
    assert "SECRET" not in str(error.value)


def test_an_address_without_a_password_is_shown_as_it_is():
    for text in ("answers.sqlite", "a:b@c.sqlite", "postgresql://me@host:5432/answers?connect_timeout=3"):
        assert shown_address(text) == text
