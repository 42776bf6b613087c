"""Names from elsewhere as names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterable


def folder_name(text: str) -> str:
    """`text` as the name of one folder: letters, digits, `.`, `_` and `-`, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:100] or "unnamed"


def folder_names(titles: Iterable[str]) -> list[str]:
    """A distinct folder name for each title, in order."""
    names: list[str] = []
    for title in titles:
        name, number = folder_name(title), 2
        while name.lower() in {taken.lower() for taken in names}:
            name, number = f"{folder_name(title)}-{number}", number + 1
        names.append(name)
    return names
