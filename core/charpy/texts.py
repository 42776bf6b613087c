"""Texts that can be stored: a Python string may hold half of a character, which no file, database or digest takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from charpy.errors import CharpyError, SpecError, storable


def check_texts(value: Any, *, where: str, error: type[CharpyError] = SpecError) -> None:
    """Refuse a text with a lone surrogate (U+D800 to U+DFFF) anywhere in nested mappings and lists.

    Python makes them of JSON such as "\\ud800" and of file names that are no UTF-8.

    Raises:
        CharpyError: of type `error`, naming the place of each.
    """
    found = [f"{place}: {text!a:.80}" if place else f"{text!a:.80}" for place, text in _texts(value) if _halved(text)]
    if found:
        raise error(
            "a text with half of a character (a lone surrogate)",
            where=where,
            found="; ".join(found[:3]),
            expected="Unicode text, which every file and database takes",
            hint="write the text anew; rename a file whose name is no UTF-8",
        )


def _halved(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside, keys included, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield place, key
            yield from _texts(item, f"{place}.{storable(str(key))}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _texts(item, f"{place}.{number}".lstrip("."))
