"""Somebody before a browser, and what their browser did beside."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Locator, Page, Request

STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")

CODE = re.compile(r"\b[A-Z0-9]{4}(-[A-Z0-9]{4}){3,5}\b")

SHOWN = """() => {
  const field = document.querySelector("input[name=position]");
  return [field ? Number(field.value) : null, document.body.textContent.includes("Attention check")];
}"""
"""The question that is shown: its position, and whether it is a check."""

CLICK = """([label, confidence]) => {
  document.querySelector(`input[name=label][value="${label}"]`).click();
  document.querySelector(`input[name=confidence][value="${confidence}"]`).click();
  document.querySelector("form[action$='/answer'] button[type=submit]").click();
}"""
"""As quick as a browser goes; where the hand matters, a test presses keys, taps or clicks."""


class Given(NamedTuple):
    """An answer as it was given: position, label, confidence (1 to 5), and whether it was an attention check."""

    position: int
    label: int
    confidence: int
    check: bool


class Visitor:
    """A browser context with one page; `faults` and `elsewhere` are what must not have happened.

    `expected` are HTTP statuses that the test provokes, `allowed` begins the addresses elsewhere that it lets through.
    """

    def __init__(self, context: BrowserContext, server: Any) -> None:
        self.context, self.server, self.url = context, server, server.url
        self.given: list[Given] = []
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        self.expected: set[int] = set()
        self.allowed = self.url + "/"
        context.set_default_timeout(20_000)
        context.on("request", self._asked)
        context.on("console", self._said)
        context.on("dialog", self._opened)
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))
        self.page: Page = context.new_page()

    # --- what a participant does

    def open(self, path: str = "/") -> Visitor:
        """Go to a page of the study."""
        self.page.goto(self.url + path)
        return self

    def agree(self) -> Visitor:
        """Tick both boxes of the consent form and go on."""
        for name in ("adult", "agree"):
            self.page.locator(f"input[name={name}]").check()
        return self.submit("/join")

    def join(self, path: str = "/") -> Visitor:
        """Come and agree."""
        return self.open(path).agree()

    def answer(self, label: int | None = None, confidence: int | None = None) -> Visitor:
        """Answer the question that is shown, and go on; by default what follows from its position."""
        here = self.shown(label, confidence)
        with self.page.expect_navigation():
            self.page.evaluate(CLICK, [here.label, here.confidence])
        self.given.append(here)
        return self

    def choose(self, label: int | None = None, confidence: int | None = None) -> None:
        """Choose a label and a confidence as with a mouse, without going on."""
        here = self.shown(label, confidence)
        self.page.locator(f"input[name=label][value='{here.label}']").check()
        self.page.locator(f"input[name=confidence][value='{here.confidence}']").check()
        self.given.append(here)

    def shown(self, label: int | None = None, confidence: int | None = None) -> Given:
        """What is going to be answered to the question that is shown."""
        place, check = self.page.evaluate(SHOWN)
        assert place is not None, f"no question is shown at {self.page.url}"
        label = (3 * place + 1) % len(self.server.study.document.labels) if label is None else label
        return Given(place, label, place % 5 + 1 if confidence is None else confidence, check)

    def submit(self, action: str) -> Visitor:
        """Press the button of a form."""
        with self.page.expect_navigation():
            self.button(action).click()
        return self

    def button(self, action: str) -> Locator:
        """What sends a form."""
        return self.page.locator(f"form[action$='{action}'] button[type=submit]")

    def finish(self) -> Visitor:
        """Answer whatever is left."""
        while self.at_question:
            self.answer()
        return self

    # --- what is on the screen

    @property
    def position(self) -> int | None:
        """Of the question that is shown; None where there is none."""
        return self.page.evaluate(SHOWN)[0]

    @property
    def at_question(self) -> bool:
        """Whether a question is shown."""
        return self.position is not None

    @property
    def is_check(self) -> bool:
        """Whether it is an attention check."""
        return self.page.evaluate(SHOWN)[1]

    @property
    def code(self) -> str:
        """The code for withdrawal, as it is shown."""
        found = CODE.search(self.page.inner_text("body"))
        assert found is not None, self.page.inner_text("body")
        return found[0]

    @property
    def code_on_leave(self) -> str:
        """The code for withdrawal of who has not finished; the page stays."""
        found = CODE.search(self.context.request.get(self.url + "/leave").text())
        assert found is not None
        return found[0]

    @property
    def overflow(self) -> int:
        """CSS pixels by which the page is wider than the screen."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    # --- what is watched

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", self.allowed)):
            self.elsewhere.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        status = STATUS.match(message.text)
        if message.type in ("error", "warning") and not (status and int(status[1]) in self.expected):
            self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _opened(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()
