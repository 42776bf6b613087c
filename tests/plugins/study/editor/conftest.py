"""A study of digits made by hand, and the pages on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
HOST = "localhost"


def made(path: Path, count: int = COUNT, resampling: Resampling = Resampling.NEAREST, **source: Any) -> Path:
    """A study file with `count` benign digits, of the model digits-cnn within 20 pixels."""
    digits = registry().create("datasets", "digits").read(range(count))
    images, draw = {}, random.Random(0)
    stimuli = []
    for image, label, name in zip(quantise(digits.images), digits.labels.tolist(), digits.ids, strict=True):
        one = f"{draw.getrandbits(64):016x}"
        pages = rendered(image, (1, 2, 4), resampling)
        images |= {(one, size): page for size, page in pages.items()}
        digests = tuple(map(digest_of, pages.values()))
        stimuli.append(Stimulus(id=one, condition="benign", original=name, label=label, digests=digests))
    model = registry().create("models", "digits-cnn")
    known = {
        "dataset": "digits",
        "shape": (1, 8, 8),
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
        model = PaintModel(document.source, reference, torch.zeros(2, 1, 8, 8), registry(), another=another)
        return EditSession(path, condition, document.source.threat or Threat(norm="l0", level=20), model)

    return opened


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
