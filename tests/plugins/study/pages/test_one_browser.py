"""One browser for several people: the operator beside a participant, and participants one after the other."""

from __future__ import annotations

import pytest

from charpy_plugins.study.web.settings import Settings

TOKEN = "a-token-that-only-the-operator-has"


def signed_in(person):
    person.send(person.page("/operator/"), "/operator/enter", token=TOKEN)
    assert "/operator/pause" in person.page("/operator/").forms
    return person


def test_declining_and_withdrawing_leave_the_operator_signed_in(serve, come, kept):
    app = serve(Settings(operator_token=TOKEN))
    person = signed_in(come(app))
    person.send(person.page("/"), "/decline")
    assert "/operator/pause" in person.page("/operator/").forms
    person.join()
    person.send(person.page("/leave"), "/withdraw")
    assert "/operator/pause" in person.page("/operator/").forms
    assert person.page("/question").forms.keys() >= {"/join"}  # and nobody takes part any more
    person.join()
    assert len(kept(app).participants) == 2


def test_declining_forgets_everything_else(serve, come):
    person = signed_in(come(serve(Settings(operator_token=TOKEN))))
    page = person.page("/?PROLIFIC_PID=5f0000000000000000000001&STUDY_ID=s&SESSION_ID=t", status=400)
    assert "link is not complete" in page.text
    person.send(person.page("/"), "/decline")
    with person.client.session_transaction() as session:
        assert set(session) == {"operator"}


def test_the_next_participant_is_another_one(serve, come, kept):
    app = serve(Settings(laboratory=True))
    person = come(app).join().finish()
    first = person.page("/thanks")
    assert person.send(first, "/next").location == "/"
    person.join().finish()
    found = kept(app).participants
    assert len({one.id for one in found}) == 2
    assert len(kept(app).answers) == 10


def test_nobody_is_sent_away_before_the_last_answer(serve, come, kept):
    app = serve(Settings(laboratory=True))
    person = come(app).join()
    token = person.page("/question").forms["/answer"]["csrf_token"]
    assert person.client.post("/next", data={"csrf_token": token}).location == "/question"
    assert person.page("/question").forms["/answer"]["position"] == "0"


@pytest.mark.parametrize("settings", [Settings(), Settings(panel=True)])
def test_without_a_laboratory_the_code_stays(serve, come, settings):
    app = serve(settings)
    ids = (
        "/?PROLIFIC_PID=5f0000000000000000000001&STUDY_ID=5f0000000000000000000002&SESSION_ID=5f0000000000000000000003"
    )
    person = come(app).join(ids).finish()
    page = person.page("/thanks")
    assert "/next" not in page.forms
    token = person.page("/withdraw").forms["/withdraw"]["csrf_token"]
    assert person.client.post("/next", data={"csrf_token": token}).status_code == 404
    assert person.page("/").text == page.text
