"""Everybody can take part: what a checker of accessibility says, where the focus goes, what is read out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe

AXE = Axe()
GRAVE = ("serious", "critical")

PLACES = """() => {
  const box = document.activeElement.getBoundingClientRect();
  const label = document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent;
  return [document.activeElement.tagName, box.top + scrollY, label.trim()];
}"""


def grave(visitor) -> list[str]:
    """What the checker finds on the page that is shown, of impact serious or critical."""
    return [
        f"{visitor.page.url}: {found['impact']} {found['id']}: {found['help']} at {node['target']}"
        for found in AXE.run(visitor.page).response["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_checker_finds_nothing_grave_on_any_page(short, visit, scheme):
    visitor = visit(short, color_scheme=scheme)
    visitor.expected = {403, 404, 409}
    found = []
    for path in ("/", "/withdraw", "/goodbye", "/nowhere", "/operator/"):
        found += grave(visitor.open(path))
    visitor.open("/withdraw").page.get_by_role("textbox").fill("AAAA-AAAA-AAAA-AAAA")
    found += grave(visitor.submit("/withdraw"))
    visitor.join()
    found += grave(visitor)
    visitor.choose()
    found += grave(visitor)  # with something chosen, and the button that can be pressed
    visitor.submit("/answer")
    found += grave(visitor.open("/leave"))
    visitor.open()
    while not visitor.is_check:
        visitor.answer()
    found += grave(visitor)
    visitor.page.locator("input[name=position]").evaluate("input => { input.value = 0 }")
    visitor.choose()
    found += grave(visitor.submit("/answer"))  # answered already
    visitor.open().finish()
    found += grave(visitor)
    code = visitor.code
    visitor.open("/withdraw").page.get_by_role("textbox").fill(code)
    found += grave(visitor.submit("/withdraw"))
    visitor.open("/operator/").page.get_by_label("Token").fill(short.token.read_text())
    found += grave(visitor.submit("/operator/enter"))
    assert found == []


def test_the_checker_finds_what_is_wrong(short, visit):
    visitor = visit(short).open()
    visitor.page.evaluate("document.querySelectorAll('label').forEach(one => one.replaceWith(...one.childNodes))")
    assert any("label" in found for found in grave(visitor))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/question", "/leave", "/withdraw"])
def test_the_focus_is_seen_and_goes_down_the_page(short, visit, path):
    visitor = visit(short)
    if path in ("/question", "/leave"):
        visitor.join()
    page = visitor.open(path).page
    if path == "/question":
        visitor.choose()
        page.locator(":focus").evaluate("one => one.blur()")
        page.evaluate("document.querySelector('main').focus()")
    stops = []
    while True:
        before = page.screenshot(full_page=True)
        page.keyboard.press("Tab")
        stop = tuple(page.evaluate(PLACES))
        if stop[0] == "BODY" or stop in stops:
            break
        assert page.screenshot(full_page=True) != before, stop
        stops.append(stop)
    places = [place for _, place, _ in stops]
    assert len(stops) >= 2
    assert all(later >= earlier - 30 for earlier, later in pairwise(places)), stops
    assert all(name for _, _, name in stops), stops


@pytest.mark.slow
def test_what_is_read_out_says_nothing_of_label_or_condition(short, visit):
    visitor = visit(short).join()
    seen = set()
    while visitor.at_question:
        images = visitor.page.get_by_role("img")
        assert images.count() == 3
        names = tuple(images.nth(place).get_attribute("alt") for place in range(3))
        assert all(names)
        assert len(set(names)) == 3
        seen.add(names)
        group = visitor.page.locator("main fieldset")
        assert [group.nth(place).locator("legend").count() for place in range(group.count())] == [1, 1]
        assert visitor.page.get_by_role("heading", level=1).count() == 1
        assert f"{visitor.position + 1} of 5" in visitor.page.title()
        visitor.answer()
    assert len(seen) == 1  # the same words whatever is shown


@pytest.mark.slow
def test_every_page_has_a_language_a_title_and_one_heading(short, visit):
    visitor = visit(short)
    visitor.expected = {404}
    titles = set()
    for path in ("/", "/withdraw", "/goodbye", "/nowhere", "/operator/"):
        page = visitor.open(path).page
        assert page.get_attribute("html", "lang") == "en"
        assert page.get_by_role("heading", level=1).count() == 1
        assert page.get_by_role("main").count() == 1
        titles.add(page.title())
    assert len(titles) == 5
    assert all(titles)
