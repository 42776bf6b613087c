"""An attacker with a browser or without: what they send changes nothing, and what they ask for tells nothing."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Error

pytestmark = pytest.mark.slow

ELSEWHERE = "http://elsewhere.invalid"


@pytest.fixture(scope="module")
def attacker(short, browser, visitor_class):
    """Somebody at the second question."""
    with browser.new_context() as context:
        yield visitor_class(context, short).join().answer()


@pytest.fixture
def taking_part(attacker, short):
    """The attacker; holds at the end of a test that no answer and no condition of anybody was changed."""
    before = short.responses()
    yield attacker
    after = short.responses()
    assert after.answers == before.answers
    assert [one.condition for one in after.participants if one.id in {old.id for old in before.participants}] == [
        one.condition for one in before.participants
    ]


def form_of(visitor, **changes: object) -> dict[str, str]:
    """The fields of the answer that would be right, changed; None leaves one out."""
    token = visitor.page.locator("form[action$='/answer'] input[name=csrf_token]").get_attribute("value")
    fields = {"csrf_token": token, "position": str(visitor.position), "label": "1", "confidence": "3", **changes}
    return {name: str(value) for name, value in fields.items() if value is not None}


def send(visitor, path: str = "/answer", method: str = "POST", **options) -> int:
    """Status of a request with the cookies of the visitor's browser."""
    return visitor.context.request.fetch(visitor.url + path, method=method, max_redirects=0, **options).status


@pytest.mark.parametrize(
    "changes",
    [
        {"csrf_token": None},
        {"csrf_token": "x"},
        {"position": 0},
        {"position": 2},
        {"position": -1},
        {"position": "1e0"},
        {"position": 10**30},
        {"label": 10},
        {"label": -1},
        {"label": None},
        {"confidence": 0},
        {"confidence": 6},
        {"confidence": "3.0"},
        {"confidence": "٣"},
    ],
    ids=str,
)
def test_a_forged_answer_is_refused(taking_part, changes):
    assert 400 <= send(taking_part, form=form_of(taking_part, **changes)) < 500


def test_a_form_of_another_participant_is_refused(taking_part, short, visit):
    before = short.responses().answers
    other = visit(short).join()
    theirs = form_of(other, position=1)
    assert 400 <= send(taking_part, form=theirs) < 500
    mine = form_of(taking_part)
    assert 400 <= send(other, form=mine) < 500
    assert short.responses().answers == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_change_nothing(taking_part, method):
    assert 400 <= send(taking_part, method=method) < 500


@pytest.mark.parametrize("path", ["/join", "/decline", "/answer", "/withdraw", "/operator/enter", "/operator/pause"])
def test_every_form_needs_its_token(taking_part, path):
    assert send(taking_part, path, form={"code": taking_part.code_on_leave, "adult": "yes", "agree": "yes"}) == 400


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_ten_megabytes_are_refused(taking_part, kind):
    body = b"label=1&" + b"x" * 10_000_000
    try:
        status = send(taking_part, data=body, headers={"Content-Type": kind})
    except Error as closed:
        if not re.search("ECONNRESET|EPIPE", str(closed)):
            raise
        status = 413  # the server hung up before all was sent
    assert status == 413


def test_json_is_no_form(taking_part):
    assert send(taking_part, data={"position": 1, "label": 1, "confidence": 3}) in (400, 415)


def test_a_condition_cannot_be_chosen(short, visit):
    visitor = visit(short).open("/?condition=perceptible&arm=perceptible")
    html = visitor.page.content()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', html)[1]
    version = re.search(r'name="version"[^>]*value="([^"]+)"', html)[1]
    before = [one.condition for one in short.responses().participants]
    form = {"csrf_token": token, "version": version, "adult": "yes", "agree": "yes", "condition": "no-such-condition"}
    assert send(visitor, "/join", form=form) in (303, 400)
    after = short.responses().participants
    assert [one.condition for one in after][: len(before)] == before
    assert {one.condition for one in after} <= {one.name for one in short.study.document.conditions}


def test_images_of_others_are_not_shown(taking_part, short):
    every = [f"/stimulus/{one.id}-x1.png" for one in short.study.document.stimuli]
    statuses = [send(taking_part, path, "GET") for path in every]
    assert 1 <= statuses.count(200) <= 5  # the attacker's own: four questions and a check
    assert statuses.count(404) == len(every) - statuses.count(200)


@pytest.mark.parametrize(
    "path",
    [
        "/stimulus/../../../etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fserved.py",
        "/study.json",
        "/answers.sqlite",
        "/.git/config",
        "/console",
        "/operator/responses",
        "/stimulus/0000000000000000-x1.png",
        "/stimulus/0000000000000000-x99999999999999999999.png",
        "/%00",
        "/%ff%fe",
    ],
)
def test_nothing_else_is_served(taking_part, path):
    assert send(taking_part, path, "GET") in (400, 404)


def test_a_page_from_elsewhere_cannot_send_or_frame(short, visit):
    visitor = visit(short).join().answer()
    visitor.allowed = ELSEWHERE
    token = form_of(visitor)["csrf_token"]
    fields = "".join(
        f"<input name={name} value='{value}'>"
        for name, value in {"csrf_token": token, "position": 1, "label": 1, "confidence": 3}.items()
    )
    body = (
        f"<form method=post action='{short.url}/answer'>{fields}<button>go</button></form><iframe src='{short.url}/'>"
    )
    visitor.context.route(f"{ELSEWHERE}/**", lambda route: route.fulfill(body=body, content_type="text/html"))
    visitor.expected = {400}
    visitor.page.goto(ELSEWHERE + "/")
    assert visitor.page.frames[1].locator("form").count() == 0
    with visitor.page.expect_navigation():
        visitor.page.locator("button").click()
    assert "another site" in visitor.page.inner_text("main") or "cannot be used" in visitor.page.inner_text("main")
    assert len(short.newest()[1]) == 1
    visitor.faults[:] = [fault for fault in visitor.faults if "frame" not in fault.lower()]


def test_a_foreign_host_name_is_not_answered(taking_part):
    assert send(taking_part, "/", "GET", headers={"Host": "elsewhere.invalid"}) == 400


def test_headers_of_every_answer(taking_part):
    for path in ("/", "/question", "/withdraw", "/nowhere", "/static/study.css", "/operator/"):
        headers = taking_part.context.request.get(taking_part.url + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "werkzeug" not in headers.get("server", "").lower()
        assert "python" not in headers.get("server", "").lower()
    cookies = taking_part.context.cookies()
    assert [(one["httpOnly"], one["sameSite"], one["path"]) for one in cookies] == [(True, "Lax", "/")]
