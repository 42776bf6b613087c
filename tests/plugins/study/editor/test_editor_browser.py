"""The editor in a real browser: painting a digit until the model misreads it, by mouse, keyboard and touch."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch

from charpy_plugins.study.editor.server import Service
from charpy_plugins.study.studyfile import Study, read_study, write_study

pytestmark = pytest.mark.slow

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def browser(engine, chromium):
    with engine.launch(executable_path=chromium, args=ARGUMENTS) as browser:
        yield browser


@contextmanager
def serving(session):
    service = Service(session, "127.0.0.1", 0)
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    yield service
    service.close()
    thread.join(10)


@pytest.fixture
def served(session):
    with serving(session) as service:
        yield service


@pytest.fixture
def open_page(browser, served):
    """`open_page(**options)`: a page that has entered; what the browser complains about, but `expected`, fails."""
    complaints, contexts, allowed = [], [], ["willReadFrequently"]  # which is said to `shown`

    def opened(expected=(), **options):
        allowed.extend(expected)
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(served.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not [text for text in complaints if not any(word in text for word in allowed)]


def open_editor(page, place=0):
    page.locator(".gallery a").nth(place).click()
    page.wait_for_selector("#scores li")
    return page


class Mouse:
    """Paints cells of the 8 x 8 canvas."""

    def __init__(self, page):
        self.page = page
        self.box = page.locator("#canvas").bounding_box()

    def at(self, x, y):
        return self.box["x"] + (x + 0.5) * self.box["width"] / 8, self.box["y"] + (y + 0.5) * self.box["height"] / 8

    def stroke(self, *places):
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place))
        self.page.mouse.up()


def lead(page):
    """The lead of the true label, as the page has it for the picture that is on it now."""
    page.wait_for_timeout(150)  # longer than a question is held back
    page.wait_for_selector("#asking", state="hidden")
    words = page.inner_text("#lead").split()
    number = next(float(word.rstrip(";.")) for word in words if word.rstrip(";.").replace(".", "").isdigit())
    return -number if "behind" in words else number


def test_a_digit_is_painted_until_it_is_misread_then_undone_and_saved(open_page, study, session):
    page = open_editor(open_page())
    mouse = Mouse(page)
    assert page.is_disabled("#save")
    assert page.inner_text("#prediction") == page.inner_text("h1").split()[2] == "2"
    best = lead(page)
    for column in range(8):  # a column is painted where the lead of the page says that it helps, else undone
        if page.is_enabled("#save"):
            break
        for colour in ("grey 255", "grey 0"):
            page.get_by_title(colour, exact=True).click()
            mouse.stroke((column, 1), (column, 5))
            now = lead(page)
            if now < best and int(page.inner_text("#used")) <= 20:
                best = now
                break
            page.keyboard.press("Control+z")
            assert lead(page) == pytest.approx(best, abs=0.011)
    assert best < 0
    assert page.is_enabled("#save")
    assert page.inner_text("#prediction") != "2"
    used = int(page.inner_text("#used"))
    while page.is_enabled("#undo"):
        page.click("#undo")
    assert page.inner_text("#used") == "0"
    lead(page)
    assert page.is_disabled("#save")
    while page.is_enabled("#redo"):
        page.keyboard.press("Control+y")
    lead(page)
    page.click("#save")
    page.get_by_text("Saved in the study").wait_for()
    (stimulus,) = read_study(study).document.of("painted")
    assert (stimulus.label, stimulus.distance, stimulus.attack) == (2, used, "painted")
    assert str(stimulus.prediction) == page.inner_text("#prediction") != "2"
    page.click("#next")
    page.wait_for_url(f"**/paint/{session.items()[1].original.id}")
    page.get_by_role("link", name="All images").click()
    assert page.locator(".gallery .done").count() == 1


def test_everything_works_by_keyboard(open_page):
    page = open_editor(open_page())
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    assert page.inner_text("#where").startswith("row 1, column 4: ")
    page.keyboard.press("Space")
    assert page.inner_text("#where") == "row 1, column 4: 255, changed"
    assert page.inner_text("#l0") == "1 px"
    page.keyboard.press("e")
    page.keyboard.press("Space")
    assert page.inner_text("#l0") == "0 px"
    assert not page.inner_text("#where").endswith("changed")
    value = page.inner_text("#where").split(": ")[1]
    page.keyboard.press("i")
    page.keyboard.press("Enter")
    assert page.input_value("#grey") == value
    assert page.get_attribute("[data-tool=pencil]", "aria-pressed") == "true"
    page.keyboard.press("]")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#brush") == "2"
    page.keyboard.press("g")
    assert not page.is_checked("#grid")
    page.keyboard.press("m")
    assert page.is_checked("#marks")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+z")
    assert page.inner_text("#l0") == "1 px"
    page.click("#reset")
    assert page.inner_text("#l0") == "0 px"
    page.click("#undo")
    assert page.inner_text("#l0") == "1 px"


def shown(page, x, y):
    """RGBA in the middle of a cell of the canvas."""
    page.wait_for_timeout(60)
    place = "[(x + 0.4) * c.width / 8, (y + 0.4) * c.height / 8]"
    script = (
        "([x, y]) => { const c = document.getElementById('canvas'); "
        f"return Array.from(c.getContext('2d').getImageData(...{place}, 1, 1).data) }}"
    )
    return page.evaluate(script, [x, y])


def test_the_original_is_seen_while_the_key_or_the_button_is_held(open_page, session):
    page = open_editor(open_page())
    original = int(session.pixels(session.items()[0].original.id)[0, 0, 0])
    assert original == 0
    Mouse(page).stroke((0, 0))
    assert shown(page, 0, 0) == [255, 255, 255, 255]
    page.keyboard.down("c")
    assert shown(page, 0, 0) == [0, 0, 0, 255]
    page.keyboard.up("c")
    assert shown(page, 0, 0) == [255, 255, 255, 255]
    page.hover("#compare")
    page.mouse.down()
    assert shown(page, 0, 0) == [0, 0, 0, 255]
    page.mouse.up()
    assert shown(page, 0, 0) == [255, 255, 255, 255]


def test_over_the_budget_is_said_and_not_saved(open_page):
    page = open_editor(open_page())
    page.locator("#brush").fill("7")
    Mouse(page).stroke((3, 3), (4, 4))
    assert int(page.inner_text("#used")) > 20
    lead(page)
    assert page.is_disabled("#save")
    assert "outside the budget" in page.inner_text("#state")
    assert page.locator(".over").count() == 1


def test_a_finger_paints_on_a_phone_and_nothing_is_wider_than_it(open_page):
    page = open_editor(open_page(**PHONE))
    mouse = Mouse(page)
    page.touchscreen.tap(*mouse.at(0, 0))
    assert page.inner_text("#l0") == "1 px"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#save").bounding_box()["y"] < 844
    page.goto(page.url.split("/paint")[0])
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_stale_answers_are_dropped(open_page):
    """While the first answer is on its way the picture changes: only the answer to the newest one is shown."""
    page = open_editor(open_page())
    asked = []

    def held(route):
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/score/**", held)
    mouse = Mouse(page)
    mouse.stroke((0, 0))
    page.wait_for_selector("#asking", state="visible")
    mouse.stroke((7, 0))
    mouse.stroke((0, 7))
    page.wait_for_timeout(400)
    assert len(asked) == 1
    asked[0].fulfill(json={"prediction": 7, "name": "STALE", "shares": None, "lead": None, "hindrance": ""})
    page.wait_for_selector("#asking", state="hidden")
    assert len(asked) == 2
    assert asked[1].request.post_data_buffer[7] == asked[1].request.post_data_buffer[56] == 255
    assert page.inner_text("#prediction") != "STALE"
    assert page.is_disabled("#save")


def test_a_changed_study_is_said_and_read_again_without_losing_the_painting(open_page, study, open_session):
    page = open_editor(open_page(expected=["status of 409"]))
    mouse = Mouse(page)
    mouse.stroke((1, 1), (1, 5))
    mouse.stroke((5, 0), (5, 5))
    lead(page)
    if page.is_disabled("#save"):
        mouse.stroke((2, 7), (6, 7))
        lead(page)
    used = page.inner_text("#used")
    other = open_session(study)
    document = other.document.model_copy(update={"seed": 7})
    write_study(Study(document, other._study.images), study)
    page.click("#save")
    page.get_by_text("somebody else has written the study file").wait_for()
    assert page.inner_text("#used") == used
    page.click("#reload")
    page.wait_for_selector("#save:enabled")
    page.click("#save")
    page.get_by_text("Saved in the study").wait_for()
    assert read_study(study).document.seed == 7


def test_a_painting_is_opened_again_and_deleted(open_page, study, session):
    page = open_page()
    open_editor(page)
    mouse = Mouse(page)
    mouse.stroke((1, 1), (1, 5))
    mouse.stroke((5, 0), (5, 5))
    lead(page)
    page.click("#save")
    page.get_by_text("Saved in the study").wait_for()
    used = page.inner_text("#used")
    page.reload()
    page.wait_for_selector("#scores li")
    assert page.inner_text("#used") == used
    page.get_by_text("Saved in the study").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    page.wait_for_selector("#delete", state="hidden")
    assert read_study(study).document.of("painted") == ()


def test_rgb_images_are_painted_in_colour(tmp_path, make_study, open_session, browser, stranger):
    path = make_study(tmp_path / "rgb.study", channels=3, reference="", fingerprint="", model="", resampling="bicubic")
    session = open_session(path, reference="strangers_of_study:red")
    page = browser.new_page()
    with serving(session) as service:
        page.goto(service.url)
        open_editor(page)
        assert page.locator("#grey").count() == 0
        page.locator("#colour").fill("#ff0000")
        Mouse(page).stroke((0, 0))
        assert page.inner_text("#l0") == "1 px"
        page.click("#save")
        page.get_by_text("Saved in the study").wait_for()
        page.close()
    (stimulus,) = read_study(path).document.of("painted")
    item = session.items()[0]
    changed = session.pixels(item.original.id)
    changed[:, 0, 0] = torch.tensor([255, 0, 0])
    assert session.pixels(stimulus.id).equal(changed)
    assert (stimulus.distance, stimulus.prediction) == (1, 0)


@pytest.mark.parametrize(("options", "scheme"), [({}, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(open_page, options, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe").Axe()
    page = open_page(**options, color_scheme=scheme, bypass_csp=True)

    def violations():
        found = axe.run(page).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]

    assert violations() == []
    open_editor(page)
    assert violations() == []
    Mouse(page).stroke((1, 1), (1, 5))
    lead(page)
    assert violations() == []
