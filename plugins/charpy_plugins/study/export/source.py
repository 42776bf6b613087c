"""Where responses come from: an answers database, by path or URL, or a file of responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.errors import CharpyError
from charpy_plugins.study.addresses import shown_address
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.export.responses_file import check_responses, read_responses
from charpy_plugins.study.responses import Responses

if TYPE_CHECKING:
    from charpy_plugins.study.store.store import Store


def responses_of(where: str, document: StudyDocument) -> Responses:
    """The responses of a `.json` file, or of a database.

    Raises:
        DataError: nothing is there, or what cannot have been answered in this study.
        IdentityError: answers to another study.
    """
    if where.endswith(".json"):
        return read_responses(Path(where), document)
    with open_store(where, document) as store:
        found = store.responses()
    check_responses(document, found, shown_address(where))
    return found


@contextmanager
def open_store(where: str, document: StudyDocument, *, create: bool = False, simulated: str = "") -> Iterator[Store]:
    """The answers database, closed behind the block.

    Raises:
        CharpyError: the extra `study` is not installed.
    """
    try:
        from charpy_plugins.study.store.store import Store
    except ImportError as cause:
        hint = "pip install 'charpy[study]'"
        raise CharpyError("an answers database needs the extra study", found=f"no {cause.name}", hint=hint) from None
    store = Store.open(where, document, create=create, simulated=simulated)
    try:
        yield store
    finally:
        store.close()
