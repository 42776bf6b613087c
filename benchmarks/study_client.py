"""One participant of a study without a browser: cookies, form tokens, and how long each request took."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

FIELD = re.compile(r'name="(csrf_token|version|position)" value="([^"]*)"')


@dataclass
class Client:
    """Takes part at `port`; what the server acknowledged is in `acknowledged`, by position."""

    port: int
    cookie: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[int, tuple[int, int]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"/join": [], "/answer": [], "/question": []})
    connection: HTTPConnection | None = None

    def ask(self, method: str, path: str, **form: object) -> int:
        """The status; the fields of the page are kept."""
        begin = time.perf_counter()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": self.cookie}
        body = urlencode({"csrf_token": self.fields.get("csrf_token", ""), **form}) if form else None
        try:
            self.connection = self.connection or HTTPConnection("127.0.0.1", self.port, timeout=60)
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            page = answer.read().decode()
        except (OSError, HTTPException):
            self.connection = None
            raise
        self.seconds.setdefault(path, []).append(time.perf_counter() - begin)
        if (cookie := answer.getheader("Set-Cookie")) is not None:
            self.cookie = cookie.split(";")[0]
        self.fields.update(FIELD.findall(page))
        return answer.status

    def open(self) -> None:
        """The first page."""
        self.ask("GET", "/")

    def join(self, together: threading.Barrier) -> None:
        """Wait for all the others, then agree."""
        together.wait()
        status = self.ask("POST", "/join", version=self.fields["version"], adult="yes", agree="yes")
        if status != 303:
            raise RuntimeError(f"/join: {status}")

    def answer(self, times: int) -> None:
        """See and answer so many questions, as fast as they come."""
        for _ in range(times):
            if self.ask("GET", "/question") != 200:
                return
            position, label, confidence = int(self.fields["position"]), random.randrange(10), random.randint(1, 5)
            if self.ask("POST", "/answer", position=position, label=label, confidence=confidence) == 303:
                self.acknowledged[position] = (label, confidence)

    def go_on(self, stop: threading.Event) -> None:
        """Answer until told to stop, whatever happens to the server."""
        while not stop.is_set():
            try:
                self.answer(1)
            except (OSError, HTTPException):
                time.sleep(0.05)
