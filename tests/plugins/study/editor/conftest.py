"""A study of digits made by hand, and the pages on it."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charpy.pixels import quantise
from charpy.plugins import registry
from charpy.subjects import digest
from charpy_plugins.study.document import (
    Condition,
    Consent,
    Kind,
    Resampling,
    Source,
    Stimulus,
    StudyDocument,
    Texts,
    Threat,
)
from charpy_plugins.study.editor.app import OnceToken, create_app
from charpy_plugins.study.editor.display import rendered
from charpy_plugins.study.editor.model import PaintModel
from charpy_plugins.study.editor.session import EditSession
from charpy_plugins.study.studyfile import Study, read_study, write_study
from charpy_plugins.study.studyfile import digest as digest_of

COUNT = 4
STRANGERS = """
import threading

import numpy as np

gate = threading.Event()

def labels(images):
    return (images.reshape(len(images), -1)[:, 0] < 0.5).astype(np.int64) * 2

def nan(images):
    scores = np.zeros((len(images), 10), np.float32)
    scores[images.reshape(len(images), -1)[:, 0] > 0.5] = np.nan
    return scores

def slow(images):
    if images.reshape(len(images), -1)[:, 0].max() > 0.5:
        gate.wait(20)
    return np.eye(10, dtype=np.float32)[np.full(len(images), 5)]

def red(images):
    # class 0 where the first pixel is rather red; by `reddest`, where it is nothing but red
    return np.eye(10, dtype=np.float32)[np.where(redness(images) > 0.3, 0, 2)] * 5

def reddest(images):
    return np.eye(10, dtype=np.float32)[np.where(redness(images) > 0.99, 0, 2)] * 5

def redness(images):
    first = images.reshape(len(images), 3, -1)[:, :, 0]
    return first[:, 0] - first[:, 1:].max(1)
"""
HOST = "localhost"


def made(
    path: Path, count: int = COUNT, resampling: Resampling = Resampling.NEAREST, channels: int = 1, **source: Any
) -> Path:
    """A study file with `count` benign digits, of the model digits-cnn within 20 pixels.

    With 3 `channels` the images are RGB, each channel half as bright as the one before; that model does not take them.
    """
    digits = registry().create("datasets", "digits").read(range(count))
    images, draw = {}, random.Random(0)
    ids = sorted(f"{draw.getrandbits(64):016x}" for _ in range(count))  # the digits stay in their order
    stimuli = []
    for one, image, label, name in zip(ids, quantise(digits.images), digits.labels.tolist(), digits.ids, strict=True):
        coloured = torch.cat([image // 2**channel for channel in range(channels)])
        pages = rendered(coloured, (1, 2, 4), resampling)
        images |= {(one, size): page for size, page in pages.items()}
        digests = tuple(map(digest_of, pages.values()))
        stimuli.append(Stimulus(id=one, condition="benign", original=name, label=label, digests=digests))
    model = registry().create("models", "digits-cnn")
    known = {
        "dataset": "digits",
        "shape": (channels, 8, 8),
        "class_names": tuple(map(str, range(10))),
        "model": "digits-cnn",
        "reference": "digits-cnn",
        "fingerprint": digest(model.fingerprint()),
        "threat": Threat(norm="l0", level=20),
    }
    document = StudyDocument(
        name="Digits by hand",
        source=Source(**{**known, **source}),
        labels=tuple(map(str, range(10))),
        conditions=(Condition(name="benign", kind=Kind.BENIGN, text="unchanged"),),
        stimuli=tuple(stimuli),
        resampling=resampling,
        texts=Texts(title="Digits", instructions="Look.", consent=Consent(version="1", text="Yes.")),
    )
    write_study(Study(document, images), path)
    return path


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Path]:
    """`make_study(path, ...)`: see `made`."""
    return made


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return made(tmp_path / "digits.study")


@pytest.fixture
def open_session() -> Callable[..., EditSession]:
    """`open_session(path)`: an editor on a study file."""

    def opened(
        path: Path, condition: str = "painted", reference: str | None = None, *, another: bool = False
    ) -> EditSession:
        document = read_study(path).document
        probe = torch.zeros(2, *document.source.shape)
        model = PaintModel(document.source, reference, probe, registry(), another=another)
        return EditSession(path, condition, document.source.threat or Threat(norm="l0", level=20), model)

    return opened


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of callable models, to be given as `strangers_of_study:NAME`."""
    (tmp_path / "strangers_of_study.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("strangers_of_study")
    yield module
    module.gate.set()
    sys.modules.pop("strangers_of_study", None)


@pytest.fixture
def session(study: Path, open_session: Callable[..., EditSession]) -> EditSession:
    return open_session(study)


@pytest.fixture
def enter() -> Callable[..., Any]:
    """`enter(session)`: a client that has used the address, and its CSRF token."""

    def entered(session: EditSession) -> tuple[Any, str]:
        token = OnceToken()
        app = create_app(session, token, {HOST})
        client = app.test_client()
        assert client.get(f"/enter/{token.text}").status_code == 303
        page = client.get("/").get_data(as_text=True)
        return client, page.split('name="csrf" content="')[1].split('"')[0]

    return entered


@pytest.fixture(scope="session")
def fooling() -> Callable[[EditSession, str], torch.Tensor]:
    """`fooling(session, stimulus)`: a painting within the budget that the model misreads."""
    return _fooling


@pytest.fixture
def first(session: EditSession) -> Stimulus:
    return session.items()[0].original


@pytest.fixture
def painting(session: EditSession, first: Stimulus) -> torch.Tensor:
    return _fooling(session, first.id)


def _fooling(session: EditSession, stimulus: str) -> torch.Tensor:
    """A painting within the budget that the model misreads: white pixels one by one, the one that helps most first."""
    item = session.item(stimulus)
    image = session.pixels(stimulus)
    places = [(y, x) for y in range(8) for x in range(8)]
    for _ in range(int(session.limit.level)):
        tried = [(y, x, value) for y, x in places for value in (0, 255) if int(image[0, y, x]) != value]
        rows = image[None].repeat(len(tried), 1, 1, 1)
        for row, (y, x, value) in enumerate(tried):
            rows[row, 0, y, x] = value
        leads = [session.model.answer(row, item.original.label).lead for row in rows]
        image = rows[int(np.argmin(leads))]
        if min(leads) < -0.5:
            return image
    raise AssertionError("the model withstands")
