"""Taking part from consent to thanks, leaving in between, and coming back."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from charpy_plugins.study.responses import State
from charpy_plugins.study.web.keys import keys
from charpy_plugins.study.web.settings import Settings

JOINED = {"adult": "yes", "agree": "yes"}


def test_what_is_answered_is_stored(serve, come, at, kept):
    app = serve()
    person = come(app).join()
    given = []
    while True:
        page = person.page("/question")
        if "/answer" not in page.forms:
            break
        given.append((int(page.forms["/answer"]["position"]), len(given) % 10, len(given) % 5 + 1))
        person.send(page, "/answer", label=given[-1][1], confidence=given[-1][2])
    found = kept(app)
    assert [(one.position, one.label, one.confidence) for one in found.answers] == given
    assert [position for position, _, _ in given] == list(range(5))
    assert [one.state for one in found.participants] == [State.FINISHED]
    assert sum(one.check for one in found.answers) == 1
    assert at(app).study.document.texts.thanks in page.text
    assert at(app).store.code(found.participants[0].id) in page.text


def test_an_image_is_shown_at_each_size_as_the_study_has_it(serve, come, at):
    app = serve(sizes=(1, 2, 4))
    person = come(app).join()
    images = person.page("/question").all("img")
    assert [int(image["width"]) for image in images] == [8, 16, 32]
    for size, image in zip((1, 2, 4), images, strict=True):
        sent = person.client.get(image["src"])
        stimulus = image["src"].removeprefix("/stimulus/").removesuffix(f"-x{size}.png")
        shown, kept = (Image.open(io.BytesIO(data)) for data in (sent.data, at(app).study.images[stimulus, size]))
        assert (shown.tobytes(), shown.mode) == (kept.tobytes(), kept.mode)
        assert shown.size == (int(image["width"]), int(image["height"]))
        assert "private" in sent.headers["Cache-Control"]


def test_the_length_of_an_image_tells_nothing(serve, come, at):
    app = serve(sizes=(1, 2))
    files = at(app).study.images
    assert len({len(data) for data in files.values()}) > 2  # in the study file, what compresses worse is longer
    lengths, headers = {1: set(), 2: set()}, set()
    for _ in range(12):
        person = come(app).join()
        for size, image in zip((1, 2), person.page("/question").all("img"), strict=True):
            sent = person.client.get(image["src"])
            lengths[size].add(len(sent.data))
            headers.add(tuple(sorted(name for name, _ in sent.headers)))
            Image.open(io.BytesIO(sent.data)).verify()  # checksums of all chunks
    assert [len(found) for found in lengths.values()] == [1, 1]
    assert len(headers) == 1


def test_nothing_on_the_page_tells_the_condition_or_the_original(serve, come, at, kept):
    app = serve(original_names=lambda number: f"original-{number}")
    person = come(app).join()
    html = person.client.get("/question").text
    (joined,) = kept(app).participants
    assert joined.condition not in html
    assert "original-" not in html
    assert joined.id not in html


def test_an_image_is_only_for_whom_it_was_drawn(serve, come, at):
    app = serve()
    person, other = come(app).join(), come(app).join()
    mine = {image["src"] for image in person.page("/question").all("img")}
    for src in mine:
        assert person.client.get(src).status_code == 200
        assert other.client.get(src).status_code == 404  # another condition: no image in common
        assert come(app).client.get(src).status_code == 404
        assert person.client.get(src.replace("-x1", "-x3").replace("-x2", "-x3")).status_code == 404
    every = {f"/stimulus/{stimulus.id}-x1.png" for stimulus in at(app).study.document.stimuli}
    assert sum(person.client.get(src).status_code == 200 for src in every) <= 5
    person.client.post("/withdraw", data=person.page("/leave").forms["/withdraw"])
    assert {person.client.get(src).status_code for src in mine} == {404}


def test_reading_pages_changes_nothing(serve, come, kept):
    app = serve()
    person = come(app).join()
    person.answer()
    before = kept(app)
    for path in ("/", "/question", "/thanks", "/leave", "/withdraw", "/withdrawn", "/goodbye", "/answer", "/join"):
        person.client.get(path)
    come(app).page("/")
    assert kept(app) == before


def test_a_reload_and_a_second_tab_keep_the_place(serve, come, kept):
    app = serve()
    person = come(app).join()
    first = person.page("/question").all("img")
    assert person.page("/").all("img") == person.page("/question").all("img") == first
    assert person.copy().page("/").all("img") == first
    assert len(kept(app).participants) == 1


def test_a_closed_browser_comes_back_within_days(serve, come):
    app = serve()
    person = come(app).join()
    person.answer()
    cookie = person.client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    assert cookie.expires is not None
    again = come(app)
    again.client.set_cookie(cookie.key, cookie.value)
    assert again.page("/").forms["/answer"]["position"] == "1"


def test_a_consent_form_that_is_sent_twice_is_one_participant(serve, come, kept):
    app = serve()
    person = come(app)
    page, other = person.page("/"), person.copy()
    assert person.send(page, "/join", **JOINED).location == "/question"
    assert other.send(page, "/join", **JOINED).location == "/question"
    assert len(kept(app).participants) == 1
    assert "/answer" in other.page("/").forms
    assert "/answer" in person.join().page("/").forms  # the cookie of the first was replaced; agreeing brings it back
    assert len(kept(app).participants) == 1


@pytest.mark.parametrize("missing", ["adult", "agree", "version"])
def test_without_consent_nobody_joins(serve, come, kept, missing):
    app = serve()
    person = come(app)
    fields = {**JOINED, missing: "no"}
    assert person.send(person.page("/"), "/join", **fields).status_code == 400
    assert person.client.get("/question").location == "/"
    assert kept(app).participants == ()


def test_who_does_not_agree_leaves_only_a_count(serve, come, kept, at):
    app = serve()
    person = come(app)
    found = person.send(person.page("/"), "/decline")
    assert (found.status_code, found.location) == (303, "/goodbye")
    assert "Goodbye" in person.page("/goodbye").text
    assert kept(app).participants == ()
    assert person.client.get_cookie(app.config["SESSION_COOKIE_NAME"]) is None
    with at(app).store._engine.connect() as db:
        ((kind, detail, participant, when),) = db.exec_driver_sql("SELECT kind, detail, participant, time FROM events")
    assert (kind, detail, participant) == ("declined", "", None)
    assert when % 86_400 == 0  # the day; a time would say who it was, beside a list of the panel


def test_a_form_that_is_sent_again_changes_nothing_and_shows_the_way_on(serve, come, at, kept):
    app = serve()
    person = come(app).join()
    page = person.page("/question")
    person.send(page, "/answer", label=1, confidence=1)
    before = kept(app)
    for label in (1, 2):
        again = person.send(page, "/answer", label=label, confidence=5)
        assert again.status_code == 409
        assert 'href="/"' in again.text
    assert kept(app) == before
    assert at(app).store.refusals() == {"replayed": 2}
    assert person.page("/").forms["/answer"]["position"] == "1"


FORGED = [
    ({"position": 1}, 409),
    ({"position": 4}, 409),
    ({"position": 999999}, 409),
    ({"position": -1}, 400),
    ({"position": ""}, 400),
    ({"position": None}, 400),
    ({"position": [0, 0]}, 400),
    ({"position": "0x0"}, 400),
    ({"position": "\u0660"}, 400),
    ({"position": "9" * 5000}, 400),
    ({"label": 10}, 400),
    ({"label": -1}, 400),
    ({"label": None}, 400),
    ({"label": "1.0"}, 400),
    ({"label": [1, 2]}, 400),
    ({"confidence": 0}, 400),
    ({"confidence": 6}, 400),
    ({"confidence": None}, 400),
    ({"confidence": "five"}, 400),
]


@pytest.mark.parametrize(("fields", "status"), FORGED)
def test_a_forged_answer_changes_nothing(serve, come, at, kept, fields, status):
    app = serve()
    person = come(app).join()
    before = kept(app)
    assert person.answer(**fields).status_code == status
    assert kept(app) == before
    assert sum(at(app).store.refusals().values()) == 1
    assert person.answer().location == "/question"
    assert len(kept(app).answers) == 1


def test_the_condition_cannot_be_chosen(serve, come, kept):
    app = serve()
    for _ in range(12):
        person = come(app)
        found = person.send(person.page("/?condition=benign"), "/join", **JOINED, condition="benign")
        assert found.location == "/question"
    conditions = [one.condition for one in kept(app).participants]
    assert [conditions.count(name) for name in ("benign", "imperceptible", "perceptible")] == [4, 4, 4]


def test_withdrawal_erases_and_forgets_the_browser(serve, come, kept):
    app = serve()
    person = come(app).join()
    person.answer()
    page, tab, code = person.page("/question"), person.copy(), person.code
    found = person.send(person.page("/leave"), "/withdraw")
    assert (found.status_code, found.location) == (303, "/withdrawn")
    assert person.client.get_cookie(app.config["SESSION_COOKIE_NAME"]) is None
    assert (kept(app).answers, [one.state for one in kept(app).participants]) == ((), [State.WITHDRAWN])
    assert tab.send(page, "/answer", label=1, confidence=1).status_code == 403
    assert "/join" in tab.page("/question").forms  # back at the start
    assert tab.send(tab.page("/withdraw"), "/withdraw", code=code).status_code == 404
    assert kept(app).answers == ()


def test_withdrawal_by_code_from_anywhere_leaves_others_alone(serve, come, kept):
    app = serve()
    person, other = come(app).join(), come(app).join()
    person.answer()
    other.answer()
    typed = " " + person.code.lower().replace("-", " ")
    assert other.send(other.page("/withdraw"), "/withdraw", code=typed).location == "/withdrawn"
    assert len(kept(app).answers) == 1
    assert other.page("/").forms["/answer"]["position"] == "1"


def test_the_code_is_shown_first_and_last(serve, come):
    person = come(serve()).join()
    code = person.code
    assert code in person.page("/question").text
    person.answer()
    assert code not in person.page("/question").text
    assert code in person.finish().page("/thanks").text


def test_an_attention_check_says_what_to_choose_instead_of_asking(serve, come, at, kept):
    app = serve(questions=1, checks=4, labels=tuple(f"thing {number}" for number in range(10)))
    person, said = come(app).join(), []
    question = at(app).study.document.texts.question
    while "/answer" in (page := person.page("/question")).forms:
        assert (question in page.text) != ("Attention check" in page.text)
        if "Attention check" in page.text:
            said.append(page.text.split("choose the label ")[1].split(" and any")[0])
        person.send(page, "/answer", label=0, confidence=1)
    assert said == [f"thing {one.truth}" for one in kept(app).answers if one.check]
    assert len(said) == 4


def test_thinking_time_counts_from_the_first_showing(serve, come, kept):
    now = [1000.0]
    app = serve(clock=lambda: now[0])
    person = come(app).join()
    page = person.page("/question")
    now[0] += 7
    person.page("/question")
    now[0] += 5
    person.send(page, "/answer", label=0, confidence=1)
    assert [one.seconds for one in kept(app).answers] == [12.0]


def test_a_cookie_of_another_study_leads_to_the_start(serve, come):
    app, other = serve(), serve(name="Another study")
    person = come(app).join()
    stranger = come(other)
    value = person.client.get_cookie(app.config["SESSION_COOKIE_NAME"]).value
    stranger.client.set_cookie(other.config["SESSION_COOKIE_NAME"], value)
    assert "/join" in stranger.page("/question").forms
    assert app.config["SESSION_COOKIE_NAME"] != other.config["SESSION_COOKIE_NAME"]


def test_thanks_are_for_who_has_finished(serve, come):
    app = serve()
    person = come(app).join()
    assert person.client.get("/thanks").location == "/question"
    assert come(app).client.get("/thanks").location == "/"
    assert person.finish().client.get("/").location == "/thanks"


def test_a_full_study_turns_newcomers_away_and_keeps_its_participants(serve, come, kept):
    app = serve(Settings(per_condition=1))
    people = [come(app).join() for _ in range(3)]
    assert "all the participants" in come(app).page("/", status=409).text
    assert len(kept(app).participants) == 3
    assert people[0].page("/").forms["/answer"]["position"] == "0"


def test_keys_are_the_digits_on_the_labels_or_count_them():
    assert keys(tuple("0123456789")).labels == tuple("0123456789")
    assert keys(("cat", "dog", "5")).labels == ("1", "2", "3")
    assert keys(tuple("abcdefghij")).labels == tuple("1234567890")
    assert keys(("cat", "dog")).confidence == tuple("qwert")
    many = keys([f"thing {number}" for number in range(11)])
    assert (set(many.labels), many.confidence) == ({""}, tuple("12345"))
    for labels in (tuple("0123456789"), ("cat", "dog")):
        found = keys(labels)
        assert not set(found.labels) & set(found.confidence)


def test_every_choice_has_a_name_and_its_key(serve, come):
    page = come(serve()).join().page("/question")
    radios = page.all("input", type="radio")
    assert [one["name"] for one in radios].count("label") == 10
    assert [one["name"] for one in radios].count("confidence") == 5
    assert all("required" in one and one["data-key"] for one in radios)
    assert len({one["data-key"] for one in radios}) == 15
    assert len(page.all("fieldset")) == len(page.all("legend")) == 2
    assert page.elements[0] == ("html", {"lang": "en", "dir": "ltr"})
