"""The answers database, in SQLite and in PostgreSQL: what is acknowledged is there, once, and nothing else."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from charpy.errors import CharpyError, DataError, IdentityError
from charpy_plugins.study.document import Consent
from charpy_plugins.study.responses import State
from charpy_plugins.study.store.opening import PREVIEW
from charpy_plugins.study.store.store import Refused, Store

BAD = ["\x00", "a\x00b", "\ud800", "\U0001f600" * 300, "'; DROP TABLE answers; --", "\u202e"]


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(where, document, clock):
    store = Store.open(where, document, create=True, clock=clock)
    yield store
    store.close()


def joined(store, person="", visit="", per_condition=None):
    return store.join("1", person, visit, per_condition).participant


def arms(store):
    return {arm.condition: arm for arm in store.progress()}


def answer_all(store, participant):
    while (question := store.question(participant)) is not None:
        store.answer(participant, question.position, 1, 3)


def test_a_whole_participation_is_read_back_as_it_was(store, document, clock):
    admission = store.join("1")
    participant = store.participant(admission.token)
    assert participant == admission.participant
    given = []
    while (question := store.question(participant)) is not None:
        clock.now += 2.5
        label, confidence = random.randrange(10), random.randint(1, 5)
        last = store.answer(participant, question.position, label, confidence)
        given.append((question.position, question.stimulus, question.asked, label, confidence))
        assert last == (len(given) == question.total == 27)
    read = store.responses()
    assert [
        (a.position, a.stimulus, a.truth if a.check else None, a.label, a.confidence) for a in read.answers
    ] == given
    stimuli = {stimulus.id: stimulus for stimulus in document.stimuli}
    assert all(
        answer.seconds == 2.5 and answer.original == stimuli[answer.stimulus].original for answer in read.answers
    )
    assert sum(answer.check for answer in read.answers) == 2
    assert all(answer.truth == stimuli[answer.stimulus].label for answer in read.answers if not answer.check)
    (person,) = read.participants
    assert (person.state, person.finished) == (State.FINISHED, clock.now)


def test_200_joins_at_once_give_arms_that_differ_by_one(store):
    with ThreadPoolExecutor(50) as pool:
        joins = list(pool.map(lambda number: joined(store, f"p{number}", "v"), range(200)))
    assert len({participant.id for participant in joins}) == 200
    assert sorted(arm.started for arm in store.progress()) == [66, 67, 67]
    assert Counter(participant.condition for participant in joins) == {a.condition: a.started for a in store.progress()}


def test_one_person_in_many_tabs_at_once_is_one_participant(store):
    barrier = threading.Barrier(20)

    def join(_):
        barrier.wait()
        return joined(store, "somebody", "visit").id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(join, range(20)))) == 1
    assert len(store.responses().participants) == 1


def test_one_answer_sent_many_times_at_once_is_kept_once(store):
    participant = joined(store)
    question = store.question(participant)
    barrier = threading.Barrier(16)

    def send(label):
        barrier.wait()
        try:
            store.answer(participant, question.position, label % 10, 3)
        except Refused as refused:
            return refused.kind
        return label % 10

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(send, range(16)))
    assert results.count("replayed") == 15
    (kept,) = [result for result in results if result != "replayed"]
    assert [answer.label for answer in store.responses().answers] == [kept]


def test_every_stimulus_of_an_arm_is_given_about_as_often(where, squares):
    store = Store.open(where, squares(8, questions=5, checks=1).document, create=True)
    for _ in range(24):  # 8 an arm, 5 of 8 stimuli each: 5 times each
        answer_all(store, joined(store))
    counts = Counter(answer.stimulus for answer in store.responses().answers if not answer.check)
    assert set(counts.values()) == {5}
    assert [(row.fewest, row.middle, row.most) for row in store.measures()] == [(5, 5, 5)] * 3
    assert [row.checks for row in store.measures()] == [8, 8, 8]
    store.close()


def test_drop_outs_free_their_place_and_may_come_back_to_their_arm(store, clock):
    first = [store.join("1", f"p{number}", "v") for number in range(6)]
    store.answer(first[0].participant, 0, 1, 3)
    clock.now += 60 * 30 + 1
    assert sum(arm.dropped for arm in store.progress()) == 6
    later = [joined(store, per_condition=2) for _ in range(6)]
    assert set(Counter(participant.condition for participant in later).values()) == {2}
    with pytest.raises(Refused, match="all the participants") as full:
        joined(store, per_condition=2)
    assert full.value.kind == "full"
    back = store.join("1", "p0", "v", 2).participant  # also when all is full
    assert (back.id, back.condition) == (first[0].participant.id, first[0].participant.condition)
    assert store.question(back).position == 1
    assert arms(store)[back.condition].started == 3


def test_who_is_at_work_is_no_drop_out(store, clock):
    participant = joined(store)
    for _ in range(5):
        clock.now += 60 * 29
        store.question(participant)
    assert sum(arm.started for arm in store.progress()) == 1


def test_a_stimulus_that_only_drop_outs_were_given_counts_as_not_given(where, squares, clock):
    store = Store.open(where, squares(8, questions=4, checks=0).document, create=True, clock=clock)
    for _ in range(3):
        joined(store)
    clock.now += 60 * 60
    for _ in range(6):
        answer_all(store, joined(store))
    assert [(row.fewest, row.most) for row in store.measures()] == [(1, 1)] * 3
    store.close()


def test_a_person_with_another_visit_is_refused(store):
    joined(store, "somebody", "one")
    for visit in ("two", ""):
        with pytest.raises(Refused, match="already"):
            joined(store, "somebody", visit)
    assert len(store.responses().participants) == 1


def test_a_pause_turns_newcomers_away_and_nobody_else(store):
    before = joined(store, "somebody", "visit")
    store.pause(True)
    assert store.paused
    assert store.closed().kind == "paused"
    assert store.closed(person="somebody") is None
    with pytest.raises(Refused) as refused:
        joined(store)
    assert (refused.value.kind, refused.value.status) == ("paused", 503)
    assert joined(store, "somebody", "visit").id == before.id
    store.answer(before, 0, 1, 1)
    store.pause(False)
    assert store.closed() is None
    joined(store)


@pytest.mark.parametrize("position", [-1, 1, 2, 26, 27, 10**30])
def test_only_the_next_question_can_be_answered(store, rows, where, position):
    participant = joined(store)
    before = rows(where)
    with pytest.raises(Refused):
        store.answer(participant, position, 1, 1)
    assert rows(where) == before


@pytest.mark.parametrize(("label", "confidence"), [(-1, 3), (10, 3), (10**30, 3), (1, 0), (1, 6), (1, -(10**30))])
def test_only_labels_and_confidences_that_exist_are_kept(store, rows, where, label, confidence):
    participant = joined(store)
    before = rows(where)
    with pytest.raises(Refused):
        store.answer(participant, 0, label, confidence)
    assert rows(where) == before


@pytest.mark.parametrize(
    "spelling", [str, str.lower, lambda code: code.replace("-", ""), lambda c: f" {c[:3]} {c[3:]}\n"]
)
def test_withdrawal_takes_the_code_as_people_type_it(store, rows, where, spelling):
    stays, goes = joined(store), store.join("1", "person", "visit")
    store.note("something", "of theirs", goes.participant.id)
    for participant in (stays, goes.participant):
        answer_all(store, participant)
    store.withdraw(spelling(store.code(goes.participant.id)))
    assert store.participant(goes.token) is None
    assert {answer.participant for answer in store.responses().answers} == {stays.id}
    left = rows(where)
    assert {row[0] for row in left["questions"]} == {stays.id}
    (row,) = [row for row in left["participants"] if row[0] == goes.participant.id]
    assert row[2:7] == ("withdrawn", None, None, None, None)
    with pytest.raises(Refused, match="Nobody"):
        store.withdraw(store.code(goes.participant.id))


def test_an_answer_that_crosses_a_withdrawal_is_refused(store):
    participant = joined(store)
    question = store.question(participant)
    store.withdraw(store.code(participant.id))
    for late in (lambda: store.answer(participant, question.position, 1, 3), lambda: store.question(participant)):
        with pytest.raises(Refused) as refused:
            late()
        assert (refused.value.kind, refused.value.status) == ("withdrawn", 410)
    assert store.responses().answers == ()


def test_codes_are_long_distinct_and_say_nothing(store):
    codes = [store.code(f"{number:032x}") for number in range(2000)]
    assert len(set(codes)) == 2000
    letters = Counter("".join(codes).replace("-", ""))
    assert len(letters) == 32
    assert not set("IO01") & set(letters)
    assert all(abs(count - 1000) < 200 for count in letters.values())  # 32,000 letters, six standard deviations


@pytest.mark.parametrize("text", BAD)
def test_no_text_is_too_strange(store, text):
    participant = joined(store, text, text)
    assert joined(store, text, text).id == participant.id
    assert store.participant(text) is None
    assert not store.shows(participant, text)
    store.note(text, text, participant.id, refused=True)
    with pytest.raises(Refused):
        store.withdraw(text)
    with pytest.raises(Refused):
        store.join(text)
    assert len(store.responses().participants) == 1
    assert sum(store.refusals().values()) == 1


def test_a_study_with_strange_texts_can_be_served(where, squares, document):
    consent = Consent(version="v\x00", text="I agree.")
    strange = squares(name="n\x00", texts=document.texts.model_copy(update={"consent": consent})).document
    store = Store.open(where, strange, create=True)
    store.join("v\x00")
    assert store.responses().participants[0].consent_version == "v[U+0000]"
    store.close()


def test_shows_only_ones_own_images(store, document):
    participant, other = joined(store), None
    while other is None or other.condition == participant.condition:
        other = joined(store)
    answer_all(store, participant)
    own = {answer.stimulus for answer in store.responses().answers}
    for stimulus in document.stimuli:
        assert store.shows(participant, stimulus.id) == (stimulus.id in own)
    assert not any(store.shows(other, stimulus) for stimulus in own)


def test_a_clock_that_goes_back_breaks_nothing(store, clock):
    participant = joined(store)
    question = store.question(participant)
    clock.now -= 86_400
    store.answer(participant, question.position, 1, 3)
    assert store.responses().answers[0].seconds == 0
    assert sum(arm.started for arm in store.progress()) == 1
    answer_all(store, joined(store))
    assert sum(arm.finished for arm in store.progress()) == 1


def test_two_servers_share_a_database(store, where, document, clock):
    other = Store.open(where, document, create=True, clock=clock)
    assert (other.secret, other.code("x")) == (store.secret, store.code("x"))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: joined((store, other)[number % 2]), range(60)))
    assert [arm.started for arm in other.progress()] == [20, 20, 20]
    admission = store.join("1")
    assert other.question(other.participant(admission.token)).position == 0
    other.close()


def test_servers_that_start_at_once_make_one_database(where, document):
    barrier = threading.Barrier(4)

    def open_store(_):
        barrier.wait()
        store = Store.open(where, document, create=True)
        store.close()
        return store.secret

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(open_store, range(4)))) == 1


def test_answers_of_another_study_or_kind_are_refused(store, where, document):
    changed = document.model_copy(update={"questions": 24})
    with pytest.raises(IdentityError, match="another study"):
        Store.open(where, changed)
    for simulated in ("a population", PREVIEW):
        with pytest.raises(IdentityError, match="do not share"):
            Store.open(where, document, create=True, simulated=simulated)
    with pytest.raises(DataError, match="made-up"):
        store.write(store.responses()._replace(simulated="a population"))


def test_a_preview_and_a_population_do_not_share_either(where, document):
    Store.open(where, document, create=True, simulated=PREVIEW).close()
    for simulated in ("", "a population"):
        with pytest.raises(IdentityError):
            Store.open(where, document, create=True, simulated=simulated)


def test_a_newer_format_is_refused_by_name(store, where, document):
    from sqlalchemy import update

    from charpy_plugins.study.store.tables import meta

    with store._writing() as db:
        db.execute(update(meta).where(meta.c.key == "format").values(value="charpy-answers-9"))
    with pytest.raises(CharpyError, match="another format") as refused:
        Store.open(where, document)
    assert refused.value.found == "charpy-answers-9"


def test_a_reader_sees_one_instant(store, where, document):
    """Whoever has an answer in what was read is among the participants there, however busy the writers are."""
    reader = Store.open(where, document)
    done = threading.Event()

    def work():
        while not done.is_set():
            participant = joined(store)
            store.question(participant)
            store.answer(participant, 0, 1, 3)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(2)]
        try:
            for _ in range(25):
                read = reader.responses()
                assert {answer.participant for answer in read.answers} <= {one.id for one in read.participants}
                assert len(read.participants) - len(read.answers) <= 2
        finally:
            done.set()
        for future in futures:
            future.result()
    reader.close()
