"""The operator's page in a real browser: accessible, and it reloads itself only while that is wanted."""

from __future__ import annotations

import pytest

from charpy_plugins.study.studyfile import write_study

TOKEN = "a token that is long enough"


@pytest.fixture
def page(engine, chromium):
    with engine.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
        yield browser.new_page(viewport={"width": 1000, "height": 700})


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    return [(rule["id"], node["html"]) for rule in Axe().run(page).response["violations"] for node in rule["nodes"]]


@pytest.mark.slow
def test_the_page_is_accessible_and_does_what_its_buttons_say(serving, visitor, page, squares):
    write_study(squares(), serving.folder / "squares.study")
    (serving.folder / "token").write_text(TOKEN)
    serving.start("--operator-token-file", "token")
    me = visitor(serving.port)
    me.ask("GET", "/")
    me.join()
    me.ask("GET", "/question")
    me.answer(1, 1)
    me.ask("POST", "/answer", {"position": 7})
    problems = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.goto(f"http://127.0.0.1:{serving.port}/operator/")
    assert violations(page) == []
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("This is not the token.").wait_for()
    assert violations(page) == []
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Pause: take no newcomers").wait_for()
    assert TOKEN not in page.url
    assert page.locator("table").count() == 3
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert violations(page) == []
    live = page.get_by_role("button", name="Refresh every 30 seconds")
    assert live.get_attribute("aria-pressed") == "true"
    live.click()
    assert live.get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Pause: take no newcomers").click()
    page.get_by_text("Nobody can join").wait_for()
    assert page.get_by_role("button", name="Refresh every 30 seconds").get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Take newcomers again").click()
    page.get_by_text("there is no limit").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    assert [text for text in problems if "403" not in text] == []


def test_the_page_reloads_itself_unless_told_not_to(serving, page):
    (serving.folder / "token").write_text(TOKEN)
    serving.start("--operator-token-file", "token")
    page.clock.install()
    page.goto(f"http://127.0.0.1:{serving.port}/operator/")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("As of").wait_for()
    loads = []
    page.on("load", lambda _: loads.append(1))
    with page.expect_event("load"):
        page.clock.run_for(31_000)
    page.get_by_role("button", name="Refresh every 30 seconds").click()
    page.evaluate("document.activeElement.blur()")
    before = len(loads)
    page.clock.run_for(120_000)
    page.wait_for_timeout(0)
    assert len(loads) == before
