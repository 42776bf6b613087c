"""The operator's page: closed without the token, and its numbers are those of the database."""

from __future__ import annotations

import pytest

from charpy_plugins.study.responses import State


@pytest.fixture(scope="module")
def server(serve, make_study):
    return serve(make_study(questions=2, checks=0, sizes=(1,)))  # lets in five times a minute


def enter(visitor, token: str):
    visitor.open("/operator/").page.get_by_label("Token").fill(token)
    return visitor.submit("/operator/enter")


def table(page, name: str) -> dict[str, list[str]]:
    """Rows of a table by their heading."""
    rows = page.get_by_role("region", name=name).locator("tbody tr")
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()}


def test_a_wrong_token_opens_nothing(server, visit, hostile):
    visitor = visit(server)
    visitor.expected = {403}
    for token in ("x", hostile.SQL[0]):
        enter(visitor, token)
        assert "not the token" in visitor.page.inner_text("main")
        visitor.open("/operator/")
        assert visitor.page.locator("table").count() == 0
        assert visitor.page.locator("form[action$='/pause']").count() == 0


@pytest.mark.slow
def test_the_numbers_are_those_of_the_database(server, visit):
    people = [visit(server).join() for _ in range(5)]
    for visitor in people[:3]:
        visitor.finish()
    people[3].answer().open("/leave")
    people[3].submit("/withdraw")
    visitor = enter(visit(server), server.token.read_text())
    participants, answers = server.responses().participants, server.responses().answers
    shown, given = table(visitor.page, "Participants"), table(visitor.page, "Answers")
    for condition in server.study.document.conditions:
        arm = [one.state for one in participants if one.condition == condition.name]
        counts = [len(arm), arm.count(State.STARTED), 0, arm.count(State.FINISHED), arm.count(State.WITHDRAWN)]
        assert list(map(int, shown[condition.name][:5])) == counts
        assert int(given[condition.name][0]) == sum(row.condition == condition.name for row in answers)
    assert (len(participants), len(answers)) == (5, 6)
    sizes = [
        sum(one.condition == condition.name for one in participants) for condition in server.study.document.conditions
    ]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
def test_a_paused_study_takes_no_newcomers_and_keeps_its_participants(server, visit):
    at_work, operator, newcomer = visit(server).join(), enter(visit(server), server.token.read_text()), visit(server)
    newcomer.open()
    operator.submit("/operator/pause")
    newcomer.expected = {409, 503}
    before = len(server.responses().participants)
    newcomer.agree()
    assert not newcomer.at_question
    assert len(server.responses().participants) == before
    at_work.finish()
    assert server.newest()[0].state is State.FINISHED
    operator.submit("/operator/resume")
    assert newcomer.open().agree().at_question


def test_who_signs_out_is_out(server, visit):
    visitor = enter(visit(server), server.token.read_text())
    assert visitor.page.locator("table").count() >= 2
    visitor.submit("/operator/leave")
    visitor.open("/operator/")
    assert visitor.page.locator("table").count() == 0


def test_words_of_the_tables_are_whole_on_a_phone(short, visit):
    visitor = enter(visit(short, viewport={"width": 390, "height": 844}), short.token.read_text())
    headings = visitor.page.get_by_role("region", name="Participants").locator("thead th")
    assert all(text == text.strip() and "\n" not in text for text in headings.all_inner_texts())
    heights = headings.evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(heights) < 90  # two lines at most: no word is broken letter by letter
    assert visitor.overflow == 0
