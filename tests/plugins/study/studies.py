"""Studies made by hand: real digits, three conditions of the same originals, no model and no run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from charpy_plugins.study.document import (
    Condition,
    Consent,
    Kind,
    Source,
    Stimulus,
    StudyDocument,
    Texts,
    Threat,
)
from charpy_plugins.study.studyfile import Study, digest

CONDITIONS = ("benign", "imperceptible", "perceptible")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEVEL = 5
"""Pixels that the two changed conditions change: by one step of 16, or to the other end of the range."""

_KINDS = {"benign": Kind.BENIGN, "imperceptible": Kind.WITNESS, "perceptible": Kind.PAINTED}

Bytes = NDArray[np.uint8]


def build(
    *,
    originals: int = 30,
    questions: int = 25,
    checks: int = 2,
    conditions: Sequence[str] = CONDITIONS,
    labels: Sequence[str] = DIGITS,
    texts: Texts | None = None,
    **fields: Any,
) -> Study:
    """A study of the first digits of scikit-learn's; `fields` are further ones of the document."""
    images, truth = _digits()
    sizes = tuple(fields.get("sizes", (1, 2, 4)))
    stimuli, pngs = [], {}
    for condition in conditions:
        for place, image in enumerate(images[:originals]):
            mark = hashlib.sha256(f"{condition} {place}".encode()).hexdigest()[:16]
            shown = [_png(changed(image, condition), size) for size in sizes]
            pngs |= {(mark, size): data for size, data in zip(sizes, shown, strict=True)}
            benign = condition == "benign"
            stimuli.append(
                Stimulus(
                    id=mark,
                    condition=condition,
                    original=f"digits:{place}",
                    label=int(truth[place]),
                    prediction=int(truth[place]) if benign else int(truth[place] + 1) % 10,
                    attack="" if benign else "by hand",
                    distance=0 if benign else LEVEL,
                    digests=tuple(map(digest, shown)),
                )
            )
    document = StudyDocument(
        name="digits",
        source=Source(dataset="digits", shape=(1, 8, 8), class_names=DIGITS, threat=Threat(norm="L0", level=LEVEL)),
        labels=tuple(labels),
        conditions=tuple(Condition(name=name, kind=_KINDS[name], text=f"{name} images") for name in conditions),
        stimuli=tuple(stimuli),
        questions=questions,
        checks=checks,
        texts=texts or words(),
        **fields,
    )
    return Study(document, pngs)


def words(**fields: Any) -> Texts:
    """What participants read; two paragraphs each."""
    plain: dict[str, Any] = {
        "title": "Which digit is it?",
        "instructions": "You will see small images of digits.\n\nChoose the digit that you see.",
        "consent": Consent(version="2026-01", text="Taking part is voluntary.\n\nYou can stop at any time."),
        "thanks": "Thank you for looking.",
        "contact": "study@example.org",
    }
    return Texts(**{**plain, **fields})


def texts_of(document: StudyDocument) -> Iterator[str]:
    """Every text that a participant reads."""
    texts = document.texts
    yield from (texts.title, texts.instructions, texts.question, texts.confidence, texts.thanks, texts.contact)
    yield from texts.scale
    yield from (texts.consent.text, texts.consent.version)
    yield from document.labels


def changed(image: Bytes, condition: str) -> Bytes:
    """The (8, 8) image as a condition shows it."""
    if condition == "benign":
        return image
    shown, rows, columns = image.copy(), np.arange(LEVEL) + 1, np.full(LEVEL, 3)
    here = image[rows, columns]
    shown[rows, columns] = 255 - here if condition == "perceptible" else np.where(here < 128, here + 15, here - 15)
    return shown


@cache
def _digits() -> tuple[Bytes, NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.minimum(found.images * 16, 255).astype(np.uint8), found.target


def _png(image: Bytes, size: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.repeat(size, axis=0).repeat(size, axis=1)).save(stream, format="PNG")
    return stream.getvalue()
