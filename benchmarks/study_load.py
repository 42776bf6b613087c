"""A lecture hall before `charpy study serve`: everybody joins at once, everybody answers; then the server is killed.

The server is a process of its own, as in earnest; the clients share its machine, and answer as fast as they can, which
people do not. Nothing may be lost, and the conditions may differ by one participant at most.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App
from page import Sheet
from PIL import Image
from study_client import Client

from charpy_plugins.study.document import Condition, Consent, Kind, Source, Stimulus, StudyDocument, Texts
from charpy_plugins.study.store.store import Store
from charpy_plugins.study.studyfile import Study, digest, write_study

CONDITIONS = ("benign", "imperceptible", "perceptible")
app = App(help=__doc__)


@app.default
def load(
    people: int = 200,
    each: int = 10,
    kills: int = 10,
    postgresql: str | None = None,
    out: Path = Path("benchmarks/results/study_load.md"),
) -> None:
    """Measure joins and answers in SQLite, and in PostgreSQL where there is one.

    Args:
        people: who join at once.
        each: answers of each.
        kills: how often the server is killed while a part of the people answer.
        postgresql: the URL of a database server; two databases, charpy_load and charpy_kills, must be there, empty.
        out: the page.
    """
    sheet = Sheet("study_load")
    sheet.table("database | what | number | a second | median ms | 95 % ms | 99 % ms | slowest ms")
    facts = []
    for name, url in (("SQLite", None), ("PostgreSQL", postgresql)):
        if name == "SQLite" or url:
            facts += [_crowd(sheet, name, url and f"{url}/charpy_load", people, each)]
            facts += [_killed(name, url and f"{url}/charpy_kills", max(people // 10, 3), kills)]
    text = ["# A study under load", "", f"Written by `python benchmarks/study_load.py --people {people} --each {each} "]
    text[-1] += f"--kills {kills}{' --postgresql URL' if postgresql else ''}`."
    text += ["", str(__doc__).split("\n\n", 1)[1].strip(), "", f"{sheet.machine}.", *sheet.lines, "", *facts]
    out.write_text("\n".join(text) + "\n", encoding="utf-8")


class Server:
    """`charpy study serve` in a folder with a study of grey squares."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.study, self.where = folder / "squares.study", url or str(folder / "answers.sqlite")
        write_study(_study(), self.study)
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, at the same port as before."""
        command = [sys.executable, "-m", "charpy", "study", "serve", str(self.study), "--port", str(self.port)]
        options = ["--answers", self.where]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self.process.stdout.readline().decode()  # type: ignore[union-attr]
        self.port = int(re.findall(r":(\d+)/", line)[0])

    def end(self, number: int) -> None:
        """Send a signal, and wait."""
        self.process.send_signal(number)
        self.process.wait()

    def store(self) -> Store:
        """Its answers."""
        return Store.open(self.where, _study().document)


def _crowd(sheet: Sheet, name: str, url: str | None, people: int, each: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), url)
        clients = [Client(server.port) for _ in range(people)]
        together = threading.Barrier(people)
        _timed([one.open for one in clients])
        joining = _timed([lambda one=one: one.join(together) for one in clients])
        answering = _timed([lambda one=one: one.answer(each) for one in clients])
        server.end(signal.SIGTERM)
        store = server.store()
        read, arms = store.responses(), sorted(arm.started + arm.finished for arm in store.progress())
        store.close()
    sent = sum(len(one.acknowledged) for one in clients)
    lasted = {"/join": joining, "/answer": answering, "/question": answering}
    for path, what in (("/join", "joins"), ("/question", "questions shown"), ("/answer", "answers kept")):
        times = np.array([second for one in clients for second in one.seconds[path]])
        marks = [f"{1000 * np.quantile(times, share):.0f}" for share in (0.5, 0.95, 0.99, 1)]
        sheet.row(name, what, len(times), f"{len(times) / lasted[path]:.0f}", *marks)
    lost = sent - len(read.answers)
    return (
        f"- {name}: {len(read.participants)} participants of {people} who joined at once, in conditions of "
        f"{', '.join(map(str, arms))}; {sent} answers acknowledged, {len(read.answers)} kept, {lost} lost."
    )


def _killed(name: str, url: str | None, people: int, kills: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), url)
        clients = [Client(server.port) for _ in range(people)]
        together = threading.Barrier(people)
        _timed([one.open for one in clients])
        _timed([lambda one=one: one.join(together) for one in clients])
        stop = threading.Event()
        threads = [threading.Thread(target=one.go_on, args=(stop,)) for one in clients]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            time.sleep(random.uniform(0.05, 0.8))
            server.end(signal.SIGKILL)
            server.start()
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join()
        server.end(signal.SIGTERM)
        store = server.store()
        read = store.responses()
        store.close()
    kept: dict[str, dict[int, tuple[int, int]]] = {}
    for answer in read.answers:
        kept.setdefault(answer.participant, {})[answer.position] = (answer.label, answer.confidence)
    lost = sum(
        min(sum(found.get(place) != what for place, what in one.acknowledged.items()) for found in kept.values())
        for one in clients
    )
    acknowledged = sum(len(one.acknowledged) for one in clients)
    return (
        f"- {name}, killed (SIGKILL) {kills} times while {people} people answered: {acknowledged} answers "
        f"acknowledged, {lost} of them lost; {len(read.participants)} participants."
    )


def _timed(jobs: list[Callable[[], Any]]) -> float:
    begin = time.perf_counter()
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def _study() -> Study:
    stimuli, images = [], {}
    for place, condition in enumerate(CONDITIONS):
        for number in range(75):
            found = f"{1000 * place + number:016x}"
            for size in (1, 2, 4):
                with tempfile.SpooledTemporaryFile() as file:
                    Image.new("L", (8 * size, 8 * size), (3 * number + place) % 256).save(file, "PNG")
                    file.seek(0)
                    images[found, size] = file.read()
            digests = tuple(digest(images[found, size]) for size in (1, 2, 4))
            stimuli.append(
                Stimulus(id=found, condition=condition, original=str(number), label=number % 10, digests=digests)
            )
    names = tuple("0123456789")
    document = StudyDocument(
        name="squares",
        source=Source(dataset="squares", shape=(1, 8, 8), class_names=names),
        labels=names,
        conditions=tuple(Condition(name=name, kind=Kind.BENIGN, text="grey squares") for name in CONDITIONS),
        stimuli=tuple(stimuli),
        questions=70,
        texts=Texts(title="Squares", instructions="Look.", consent=Consent(version="1", text="I agree.")),
    )
    return Study(document, images)


if __name__ == "__main__":
    app()
