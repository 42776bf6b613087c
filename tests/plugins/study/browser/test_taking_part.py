"""A participant from consent to the code: by keyboard, on a phone, enlarged, without scripts."""

from __future__ import annotations

import pytest

from charpy_plugins.study.responses import State

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True}
NARROW = {"viewport": {"width": 320, "height": 568}}
DOUBLED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}
"""A window of 1280 x 800 at a zoom of 200 %: half the CSS pixels, twice as large."""


@pytest.fixture(scope="module")
def full(serve, make_study):
    """A study as the paper has it: 25 questions of 30 images, and two checks."""
    return serve(make_study(sizes=(1, 2, 4)))


def kept(server):
    """The newest participant's answers as the browser gave them."""
    return [(row.position, row.label, row.confidence, row.check) for row in server.newest()[1]]


def test_consent_to_code_by_keyboard_only(full, visit):
    visitor = visit(full).open()
    page = visitor.page
    for name in ("adult", "agree"):
        while page.evaluate("document.activeElement.name") != name:
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    while visitor.at_question:
        here = visitor.shown()
        page.keyboard.press(str(here.label))
        page.keyboard.press("qwert"[here.confidence - 1])
        with page.expect_navigation():
            page.keyboard.press("Enter")
        visitor.given.append(here)
    participant, answers = full.newest()
    assert kept(full) == visitor.given
    assert (len(answers), sum(row.check for row in answers)) == (27, 2)
    assert len({row.stimulus for row in answers if not row.check}) == 25
    assert participant.state is State.FINISHED
    assert participant.consent_version == full.study.document.texts.consent.version
    assert full.study.document.texts.thanks in page.inner_text("body")
    assert visitor.code


@pytest.mark.slow
def test_a_phone(short, visit):
    visitor = visit(short, **PHONE).open()
    assert visitor.overflow == 0
    for name in ("adult", "agree"):
        visitor.page.locator(f"label:has(input[name={name}])").tap()
    visitor.submit("/join")
    while visitor.at_question:
        assert visitor.overflow == 0
        here = visitor.shown()
        for field in ("label", "confidence"):
            choice = visitor.page.locator(f"label:has(input[name={field}][value='{getattr(here, field)}'])")
            width, height = (choice.bounding_box()[side] for side in ("width", "height"))
            assert min(width, height) >= 24  # WCAG 2.2, 2.5.8: a target that a finger finds
            choice.tap()
        visitor.given.append(here)
        with visitor.page.expect_navigation():
            visitor.button("/answer").tap()
    assert visitor.overflow == 0
    assert kept(short) == visitor.given
    assert len(visitor.given) == 5


@pytest.mark.slow
@pytest.mark.parametrize("screen", [NARROW, DOUBLED], ids=["320 px", "200 %"])
def test_nothing_is_wider_than_the_screen(short, visit, screen):
    visitor = visit(short, **screen)
    for path in ("/", "/withdraw", "/goodbye", "/nowhere"):
        visitor.expected = {404}
        assert visitor.open(path).overflow == 0, path
    visitor.join()
    while visitor.at_question:
        assert visitor.overflow == 0
        visitor.answer()
    assert visitor.overflow == 0
    assert kept(short) == visitor.given


def test_without_scripts(short, visit):
    visitor = visit(short, java_script_enabled=False).join().finish()
    assert kept(short) == visitor.given
    assert len(visitor.given) == 5
    assert visitor.code
    assert short.newest()[0].state is State.FINISHED


def test_an_attention_check_is_seen_and_kept(short, visit):
    visitor = visit(short).join()
    labels = short.study.document.labels
    while not visitor.is_check:
        visitor.answer()
    asked = labels.index(visitor.page.inner_text("legend strong"))
    visitor.answer(label=asked).finish()
    (check,) = [row for row in short.newest()[1] if row.check]
    assert check.truth == check.label == asked


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_form_that_lacks_a_choice_is_not_sent(short, visit, scripts):
    visitor = visit(short, java_script_enabled=scripts).open()
    visitor.button("/join").click()
    assert visitor.page.locator("input[name=adult]").evaluate("one => one === document.activeElement")
    visitor.agree()
    visitor.page.locator("input[name=label]").first.check()
    if scripts:
        assert visitor.button("/answer").is_disabled()
    else:
        visitor.button("/answer").click()
        assert visitor.page.locator("input[name=confidence]").first.evaluate("one => one === document.activeElement")
    assert visitor.position == 0
    assert short.newest()[1] == []


def test_a_double_click_is_one_answer(short, visit):
    visitor = visit(short).join()
    for _ in range(2):
        visitor.choose()
        visitor.button("/answer").dblclick()
        visitor.page.wait_for_function(
            "known => !document.querySelector(`input[name=position][value='${known}']`)", arg=visitor.given[-1].position
        )
        visitor.open()
    assert kept(short) == visitor.given


def test_back_after_an_answer_changes_nothing(short, visit):
    visitor = visit(short).join().answer().answer()
    visitor.expected = {409}
    visitor.page.go_back()
    if visitor.position < 2:  # the browser kept the page of an answered question
        wrong = visitor.shown(label=0)
        visitor.page.locator(f"input[name=label][value='{wrong.label}']").check()
        visitor.page.locator("input[name=confidence]").first.check()
        visitor.submit("/answer")
        assert "answered already" in visitor.page.inner_text("main")
        visitor.page.locator("main a").click()
    visitor.page.locator("input[name=position][value='2']").wait_for(state="attached")
    assert kept(short) == visitor.given
    visitor.finish()
    assert kept(short) == visitor.given


def test_two_tabs_are_one_participant(short, visit):
    visitor = visit(short).join()
    other = visitor.context.new_page()
    other.goto(short.url)
    assert other.locator("input[name=position]").get_attribute("value") == "0"
    visitor.answer()
    other.locator("input[name=label]").last.check()
    other.locator("input[name=confidence]").last.check()
    visitor.expected = {409}
    with other.expect_navigation():
        other.locator("form[action$='/answer'] button[type=submit]").click()
    assert "answered already" in other.inner_text("main")
    assert kept(short) == visitor.given
    other.locator("main a").click()
    other.locator("input[name=position][value='1']").wait_for(state="attached")
