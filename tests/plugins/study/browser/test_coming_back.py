"""What a closed tab, an ended browser, a killed server and a withdrawal leave behind."""

from __future__ import annotations

import pytest

from charpy_plugins.study.responses import State


def order(server, participant: str) -> list[str]:
    """The stimuli that a participant has answered, in order."""
    return [row.stimulus for row in server.responses().answers if row.participant == participant]


def seen(visitor) -> tuple[int, list[str]]:
    """The question that is shown: position and addresses of its images."""
    images = visitor.page.locator("main img")
    return visitor.position, [images.nth(place).get_attribute("src") or "" for place in range(images.count())]


def test_a_closed_tab_goes_on_where_it_was(short, visit):
    visitor = visit(short).join().answer().answer()
    before, participant = seen(visitor), short.newest()[0]
    visitor.page.close()
    visitor.page = visitor.context.new_page()
    assert seen(visitor.open()) == before
    visitor.finish()
    assert short.newest()[0].id == participant.id
    assert short.newest()[0].condition == participant.condition
    assert [row[:3] for row in visitor.given] == [
        (row.position, row.label, row.confidence) for row in short.newest()[1]
    ]


@pytest.mark.slow
def test_an_ended_browser_with_a_kept_profile_goes_on(short, engine, options, visitor_class, tmp_path):
    context = engine.launch_persistent_context(str(tmp_path / "profile"), **options)
    visitor = visitor_class(context, short).join().answer()
    before, participant = seen(visitor), short.newest()[0]
    context.close()
    context = engine.launch_persistent_context(str(tmp_path / "profile"), **options)
    visitor = visitor_class(context, short).open()
    assert seen(visitor) == before
    visitor.finish()
    context.close()
    assert (short.newest()[0].id, short.newest()[0].condition) == (participant.id, participant.condition)
    assert short.newest()[0].state is State.FINISHED
    assert visitor.faults == visitor.elsewhere == []


def test_a_killed_server_loses_no_answer(serve, make_study, visit):
    server = serve(make_study(questions=6, checks=1))
    visitor = visit(server).join().answer().answer()
    for _ in range(2):
        visitor.choose()
        server.kill()
        acknowledged = visitor.given[:-1]
        assert [tuple(row) for row in acknowledged] == rows(server)
        server.start()
        visitor.submit("/answer")
        assert rows(server) == visitor.given
    visitor.finish()
    assert rows(server) == visitor.given
    assert server.newest()[0].state is State.FINISHED
    assert len(server.responses().participants) == 1


def rows(server) -> list[tuple[int, int, int, bool]]:
    """The newest participant's answers as a browser gives them."""
    return [(row.position, row.label, row.confidence, row.check) for row in server.newest()[1]]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "half-way"])
def test_withdrawal_from_another_browser_erases(short, visit, finished):
    visitor = visit(short).join().answer()
    if finished:
        visitor.finish()
    else:
        visitor.open("/leave")
    participant = short.newest()[0]
    assert order(short, participant.id)
    others = [row for row in short.responses().answers if row.participant != participant.id]
    elsewhere = visit(short).open("/withdraw")
    elsewhere.page.get_by_role("textbox").fill(visitor.code.lower().replace("-", " "))
    elsewhere.submit("/withdraw")
    assert "erased" in elsewhere.page.inner_text("main")
    found = short.responses()
    assert order(short, participant.id) == []
    assert [row for row in found.answers if row.participant != participant.id] == others
    assert [one.state for one in found.participants if one.id == participant.id] == [State.WITHDRAWN]
    visitor.open("/question")  # the first browser is nobody's any more
    assert not visitor.at_question


@pytest.mark.slow
def test_an_unknown_code_erases_nothing(short, visit, hostile):
    before = visit(short).join().answer().server.responses()
    visitor = visit(short)
    visitor.expected = {404}
    for code in ("AAAA-AAAA-AAAA-AAAA", "x" * 64, *hostile.SQL[:4], *hostile.XSS[:2]):
        field = visitor.open("/withdraw").page.get_by_role("textbox")
        field.evaluate("field => field.removeAttribute('maxlength')")
        field.evaluate("(field, code) => { field.removeAttribute('pattern'); field.value = code }", code)
        visitor.submit("/withdraw")
        assert visitor.page.get_by_role("textbox").is_visible()
    assert short.responses().answers == before.answers
