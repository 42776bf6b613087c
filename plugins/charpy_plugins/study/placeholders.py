"""Places in a study's texts that somebody still has to fill in: `[[name of the university]]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from charpy_plugins.study.document import StudyDocument

_PLACE = re.compile(r"\[\[.*?\]\]", re.DOTALL)


def placeholders(document: StudyDocument) -> tuple[str, ...]:
    """What participants would read and nobody has written yet, each once, in order."""
    texts = [document.texts.model_dump(mode="json"), list(document.labels)]
    return tuple(dict.fromkeys(found for text in _strings(texts) for found in _PLACE.findall(text)))


def _strings(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from _strings(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _strings(value)
