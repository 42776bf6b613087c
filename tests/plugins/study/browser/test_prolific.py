"""People of a panel: their ids in the address, and the ways out."""

from __future__ import annotations

import pytest

from charpy_plugins.study.responses import State

COMPLETE = "https://app.prolific.com/submissions/complete?cc="
WAYS_OUT = ("--completion-code", "C0MPLETE", "--screen-out-url", "SCREENED", "--full-url", f"{COMPLETE}FULL0000")
ANN, BEN, CAY = ("5f0e1d2c3b4a59687f6e5d4c", "60a1b2c3d4e5f60718293a4b", "61aabbccddeeff0011223344")


def visit_of(person: str, session: str = "session-number-one") -> str:
    return f"/?PROLIFIC_PID={person}&STUDY_ID=study-on-prolific&SESSION_ID={session}"


@pytest.fixture(scope="module")
def panel(serve, make_study):
    return serve(make_study(questions=2, checks=0), "--panel", *WAYS_OUT)


@pytest.fixture
def come(visit):
    """`come(server)`: a visitor who may be sent to Prolific; where that is, nobody answers."""

    def coming(server):
        visitor = visit(server)
        visitor.allowed = "https://app.prolific.com/"
        return visitor

    return coming


def sent_to(visitor, press) -> str:
    """The address of Prolific that `press` leads to; it is told nothing of where the participant comes from."""
    with visitor.page.expect_request("https://app.prolific.com/**") as asked:
        press()
    assert asked.value.is_navigation_request()
    assert "referer" not in asked.value.headers
    return asked.value.url


def test_who_finishes_is_sent_back_with_the_code(panel, come):
    visitor = come(panel).join(visit_of(ANN)).finish()
    assert sent_to(visitor, visitor.page.get_by_role("link", name="Prolific").click) == f"{COMPLETE}C0MPLETE"
    assert panel.newest()[0].state is State.FINISHED
    assert len(panel.newest()[1]) == 2


def test_ids_of_the_panel_are_nowhere_on_disk(panel, come):
    come(panel).join(visit_of(CAY, "session-that-nobody-keeps")).finish()
    kept = b"".join(path.read_bytes() for path in panel.folder.iterdir() if path.is_file())
    for text in (CAY, CAY.upper(), "session-that-nobody-keeps", "127.0.0.1 "):
        assert text.encode() not in kept


def test_who_does_not_agree_is_screened_out(panel, come):
    before = len(panel.responses().participants)
    visitor = come(panel).open(visit_of(BEN))
    assert sent_to(visitor, visitor.button("/decline").click) == f"{COMPLETE}SCREENED"
    assert len(panel.responses().participants) == before


@pytest.mark.slow
def test_the_same_person_twice(panel, come):
    person = "62aabbccddeeff0011223344"
    first = come(panel).join(visit_of(person)).answer()
    participant = panel.newest()[0]
    again = come(panel).join(visit_of(person))  # another browser, the same visit: goes on
    assert again.position == 1
    again.finish()
    assert panel.newest()[0].id == participant.id
    assert len(panel.newest()[1]) == 2
    other = come(panel)
    other.expected = first.expected = {400, 403, 409}
    other.join(visit_of(person, "session-number-two"))
    assert "taken part" in other.page.inner_text("main")
    assert panel.newest()[0].id == participant.id


@pytest.mark.parametrize(
    "path",
    ["/", "/?PROLIFIC_PID=1", visit_of("'OR 1=1"), visit_of("<script>"), visit_of(ANN) + f"&PROLIFIC_PID={BEN}"],
    ids=["no ids", "some ids", "no id", "markup", "two ids"],
)
def test_an_address_without_proper_ids_lets_nobody_in(panel, come, path):
    before = len(panel.responses().participants)
    visitor = come(panel)
    visitor.expected = {400}
    visitor.open(path)
    assert "Prolific" in visitor.page.inner_text("main")
    assert visitor.page.locator("form[action$='/join']").count() == 0
    assert len(panel.responses().participants) == before


@pytest.mark.slow
def test_a_full_study_sends_back_who_comes_too_late(serve, make_study, come):
    study = make_study(questions=1, checks=0)
    server = serve(study, *WAYS_OUT, "--per-condition", "1")
    people = [come(server).open(visit_of(f"{number:024x}", f"session-{number}")) for number in range(4)]
    for visitor in people[:3]:
        visitor.agree().finish()
    assert {one.condition for one in server.responses().participants} == {one.name for one in study.document.conditions}
    for name in ("adult", "agree"):
        people[3].page.locator(f"input[name={name}]").check()
    assert sent_to(people[3], people[3].button("/join").click) == f"{COMPLETE}FULL0000"
    late = come(server)
    link = f"location = '{late.url}{visit_of(f'{9:024x}', 'session-9')}'"
    late.page.goto(late.url + "/withdraw")
    assert sent_to(late, lambda: late.page.evaluate(link)) == f"{COMPLETE}FULL0000"
    assert len(server.responses().participants) == 3
