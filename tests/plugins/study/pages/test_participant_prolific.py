"""Coming from Prolific and going back there."""

from __future__ import annotations

import pytest

from charpy.errors import SpecError
from charpy_plugins.study.web.prolific import COMPLETE, address, origin
from charpy_plugins.study.web.settings import Settings

PID, STUDY, SESSION = "5f1a2b3c4d5e6f708192a3b4", "60a1b2c3d4e5f60718293a4b", "61a1b2c3d4e5f60718293a4c"


def link(person: str = PID, study: str = STUDY, session: str = SESSION) -> str:
    return f"/?PROLIFIC_PID={person}&STUDY_ID={study}&SESSION_ID={session}"


def routes(**changes: object) -> Settings:
    return Settings(completion="C1DONE99", screened_out="C2NOTFIT", full="C3NOROOM", **changes)


def test_who_has_finished_goes_back_with_the_code(serve, come, at):
    person = come(serve(routes())).join(link()).finish()
    (back,) = person.page("/thanks").all("a", **{"class": "button"})
    assert back["href"] == "https://app.prolific.com/submissions/complete?cc=C1DONE99"


def test_the_completion_code_is_only_for_who_came_from_there(serve, come):
    app = serve(routes())
    person = come(app).join().finish()
    assert "C1DONE99" not in person.client.get("/thanks").text
    person.page(link())  # the ids alone, afterwards, do not make one of theirs
    assert "C1DONE99" not in person.client.get("/thanks").text
    early = come(app).join(link(person="a" * 24))
    assert "C1DONE99" not in early.page("/thanks").text


def test_who_does_not_agree_is_screened_out(serve, come, at, kept):
    app = serve(routes())
    person = come(app)
    page = person.page(link())
    found = person.send(page, "/decline")
    assert (found.status_code, found.location) == (303, COMPLETE + "C2NOTFIT")
    assert kept(app).participants == ()
    other = come(app)
    assert other.send(other.page("/"), "/decline").location == "/goodbye"


def test_forms_may_lead_to_prolific_only_where_it_is_used(serve, come):
    def forms(settings):
        policy = come(serve(settings)).client.get("/").headers["Content-Security-Policy"]
        return next(part.split()[1:] for part in policy.split(";") if part.split()[0] == "form-action")

    assert forms(Settings()) == ["'self'"]
    assert forms(routes()) == ["'self'", "https://app.prolific.com"]
    elsewhere = Settings(full="https://lab.example.org:8443/full?x=1")
    assert forms(elsewhere) == ["'self'", "https://lab.example.org:8443"]


def test_who_comes_too_late_is_sent_back(serve, come, kept):
    app = serve(routes(per_condition=1))
    late = come(app)
    page = late.page(link())
    for number in range(3):
        come(app).join(link(person=f"{number:024x}"))
    found = late.send(page, "/join", adult="yes", agree="yes")
    assert (found.status_code, found.location) == (303, COMPLETE + "C3NOROOM")
    assert come(app).client.get(link(person="b" * 24)).location == COMPLETE + "C3NOROOM"
    assert len(kept(app).participants) == 3


def test_the_same_visit_goes_on_in_another_browser(serve, come, kept):
    app = serve(routes())
    first = come(app).join(link())
    first.answer()
    other = come(app).join(link(person=PID.upper()))
    assert other.page("/question").forms["/answer"]["position"] == "1"
    assert first.client.get("/question").location == "/"  # one browser at a time
    assert len(kept(app).participants) == 1


def test_another_visit_of_the_same_person_is_refused(serve, come, kept, at):
    app = serve(routes())
    come(app).join(link())
    before = kept(app)
    again = come(app)
    found = again.send(again.page(link(session="f" * 24)), "/join", adult="yes", agree="yes")
    assert found.status_code == 409
    assert "taken part" in found.text
    assert kept(app) == before
    assert at(app).store.refusals() == {"taken part": 1}


def test_another_person_in_the_same_browser_is_another_participant(serve, come, kept):
    app = serve(routes())
    person = come(app).join(link())
    person.answer()
    assert "/join" in person.page(link(person="c" * 24)).forms
    assert person.page("/").forms["/answer"]["position"] == "1"  # until they agree, nothing has changed
    person.page(link(person="c" * 24, session="d" * 24))
    person.join(link(person="c" * 24, session="d" * 24))
    assert person.page("/question").forms["/answer"]["position"] == "0"
    assert len(kept(app).participants) == 2


ODD = [
    link(person="{{%PROLIFIC_PID%}}"),
    link(person=""),
    link(person="5f1a2b3c4d5e6f708192a3b"),
    link(person=PID + "0"),
    link(person=PID + "%0A"),
    link(person="z" * 24),
    link(person="%00" * 24),
    link(person="a" * 10_000),
    link(study="x"),
    link(study="<b>" * 8),
    link(session="a" * 65),
    link(session=""),
    link() + "&PROLIFIC_PID=" + "a" * 24,
    f"/?PROLIFIC_PID={PID}",
    f"/?SESSION_ID={SESSION}",
]


@pytest.mark.parametrize("address", ODD)
def test_odd_ids_are_refused_politely(serve, come, kept, address):
    app = serve(routes())
    person = come(app)
    found = person.client.get(address)
    assert found.status_code == 400
    assert "open the study again from its page on Prolific" in found.text
    assert kept(app).participants == ()
    with person.client.session_transaction() as session:
        assert "panel" not in session


def test_ids_are_stored_nowhere_as_they_are(serve, come, tmp_path, kept):
    app = serve(routes())
    person = come(app).join(link())
    person.finish()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert kept(app).participants[0].id.encode() in written
    for text in (PID, STUDY, SESSION):
        assert text.encode() not in written


def test_a_panel_study_is_closed_without_ids(serve, come, kept):
    app = serve(routes(panel=True))
    person = come(app)
    assert "from Prolific" in person.page("/", status=400).text
    token = person.page("/withdraw").forms["/withdraw"]["csrf_token"]
    found = person.client.post("/join", data={"csrf_token": token, "adult": "yes", "agree": "yes"})
    assert found.status_code == 400
    assert kept(app).participants == ()
    come(app).join(link())
    assert len(kept(app).participants) == 1


def test_addresses_to_go_back_to():
    assert address("", "x") == ""
    assert address("C1ABCDEF", "x") == "https://app.prolific.com/submissions/complete?cc=C1ABCDEF"
    whole = "https://app.prolific.com/submissions/complete?cc=ABC"
    assert (address(whole, "x"), origin(whole)) == (whole, "https://app.prolific.com")


BAD = (
    "http://app.prolific.com/x",
    "javascript:alert(1)",
    "https://a b",
    "https://x;script-src *",
    "C1 2",
    "//x.org",
    "é",
)


@pytest.mark.parametrize("field", ["completion", "screened_out", "full"])
@pytest.mark.parametrize("text", BAD)
def test_an_address_that_is_none_stops_the_server(serve, field, text):
    with pytest.raises(SpecError, match=f"{field}: participants cannot be sent there"):
        serve(Settings(**{field: text}))
