"""A `charpy study serve` process, as a researcher starts it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from charpy_plugins.study.responses import Answer, Participant, Responses
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import Study, write_study

PATIENCE = 60.0
"""Seconds that a server may take to answer."""

TOKEN = "a-token-that-only-the-operator-has"


class Server:
    """One server on a port of its own. It can be killed, and started again on the same answers and port."""

    def __init__(self, study: Study, folder: Path, *options: str) -> None:
        self.study, self.folder, self.options = study, folder, options
        self.file, self.answers, self.log = folder / "digits.study", folder / "answers.sqlite", folder / "log.txt"
        self.token = folder / "token"
        self.token.write_text(TOKEN)
        write_study(study, self.file)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "charpy", "study", "serve", str(self.file)]
        command += ["--port", str(self.port), "--answers", str(self.answers), "--operator-token-file", str(self.token)]
        command += self.options
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"{' '.join(command)} does not serve:\n{self.log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def responses(self) -> Responses:
        """What the database has now."""
        store = Store.open(self.answers, self.study.document)
        try:
            return store.responses()
        finally:
            store.close()

    def newest(self) -> tuple[Participant, list[Answer]]:
        """Who joined last, with their answers in order."""
        found = self.responses()
        last = max(found.participants, key=lambda one: one.joined)
        return last, [answer for answer in found.answers if answer.participant == last.id]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/withdraw", timeout=PATIENCE) as page:
                return page.status == 200
        except OSError:
            return False
