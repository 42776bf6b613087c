"""What helps on a question page: what is missing is said, images keep their size, hints of keys go with a touch."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True}
MOUSE_BESIDE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


def test_what_is_missing_is_said_beside_the_button(short, visit):
    visitor = visit(short).join()
    hint, button = visitor.page.locator("#missing"), visitor.button("/answer")
    assert button.get_attribute("aria-describedby") == "missing"
    assert hint.get_attribute("role") == "status"
    assert hint.is_visible()
    assert hint.inner_text() == "To go on, choose a label and say how confident you are."
    visitor.page.locator("input[name=label]").first.check()
    assert hint.inner_text() == "To go on, say how confident you are."
    visitor.page.reload()
    visitor.page.locator("input[name=confidence]").first.check()
    assert hint.inner_text() == "To go on, choose a label."
    assert button.is_disabled()
    visitor.page.locator("input[name=label]").first.check()
    assert hint.inner_text() == ""
    assert not hint.is_visible()
    assert button.is_enabled()


def test_a_touch_takes_hints_of_keys_away_on_every_page_and_a_key_brings_them_back(short, visit):
    """Also where the browser says that there is a mouse, as a laptop with a touch screen does."""
    visitor = visit(short).open()
    touch = "new PointerEvent('pointerdown', {pointerType: 'touch', bubbles: true})"
    visitor.page.evaluate(f"document.body.dispatchEvent({touch})")
    visitor.agree()
    key = visitor.page.locator("kbd").first
    for _ in range(2):
        assert not key.is_visible()
        assert not visitor.page.locator("[data-shortcuts]").is_visible()
        visitor.answer()
    visitor.page.keyboard.press("Shift")
    assert key.is_visible()
    visitor.page.reload()
    assert key.is_visible()


@pytest.mark.parametrize("screen", [PHONE, MOUSE_BESIDE], ids=["phone", "touch"])
def test_a_phone_shows_hints_of_keys_on_no_question(short, visit, screen):
    visitor = visit(short, **screen).join()
    while visitor.at_question:
        assert not visitor.page.locator("kbd").first.is_visible()
        assert visitor.page.locator("html.touched").count() == 1  # whatever the browser says of its pointers later
        visitor.answer()


@pytest.fixture(scope="module")
def large(serve, make_study):
    """Digits of 8, 64 and 128 pixels."""
    return serve(make_study(questions=2, checks=0, sizes=(1, 8, 16)))


@pytest.mark.parametrize("width", [110, 320, 1280])
def test_images_keep_their_size_on_every_screen(large, visit, width):
    visitor = visit(large, viewport={"width": width, "height": 600}).join()
    boxes = [one.bounding_box() for one in visitor.page.locator(".stimulus img").all()]
    assert [(box["width"], box["height"]) for box in boxes] == [(8, 8), (64, 64), (128, 128)]
    assert visitor.page.evaluate("document.querySelector('.stimulus').getBoundingClientRect().right <= innerWidth")
    scrolls, focusable, reached = visitor.page.evaluate("""() => {
      const strip = document.querySelector(".stimulus");
      const last = strip.querySelector("img:last-of-type");
      const left = last.getBoundingClientRect().left - strip.getBoundingClientRect().left;
      strip.scrollLeft = 1e6;
      const right = last.getBoundingClientRect().right - strip.getBoundingClientRect().right;
      return [strip.scrollWidth > strip.clientWidth, strip.tabIndex === 0, left >= 0 && right <= 0];
    }""")
    assert reached  # from its left edge to its right one
    assert scrolls == focusable == (width == 110)


def test_a_newcomer_who_is_lost_is_shown_the_first_page(short, visit):
    visitor = visit(short)
    visitor.expected = {404}
    visitor.open("/nowhere")
    assert visitor.page.locator("main a").inner_text() == "To the first page of the study"
    visitor.page.locator("main a").click()
    visitor.agree().open("/nowhere")
    assert visitor.page.locator("main a").inner_text() == "Go on with the study"


@pytest.mark.slow
def test_a_laboratory_takes_one_participant_after_the_other(serve, make_study, visit):
    server = serve(make_study(questions=2, checks=0), "--laboratory")
    visitor = visit(server)
    codes = set()
    for number in range(3):
        visitor.join().finish()
        codes.add(visitor.code)
        assert len(server.responses().participants) == number + 1
        visitor.submit("/next")
        assert visitor.page.url == server.url + "/"
        visitor.page.go_back()
        assert not set(visitor.page.inner_text("body").split()) & codes  # nobody sees the code of who was before
        visitor.open("/thanks")
        assert visitor.page.url == server.url + "/"
    assert len(codes) == 3
