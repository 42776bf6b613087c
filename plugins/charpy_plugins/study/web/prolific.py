"""The panel Prolific: ids in the address of the study's first page, and addresses to go back to.

The parameters PROLIFIC_PID, STUDY_ID and SESSION_ID, and `https://app.prolific.com/submissions/complete?cc=CODE`, are
those that Prolific documents for studies on a site of one's own.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from werkzeug.datastructures import MultiDict

from charpy.errors import SpecError
from charpy_plugins.study.store.store import Refused

COMPLETE = "https://app.prolific.com/submissions/complete?cc="
_PERSON = re.compile(r"[0-9a-fA-F]{24}")
_OTHER = re.compile(r"[0-9a-zA-Z_-]{8,64}")
_CODE = re.compile(r"[0-9a-zA-Z]{4,32}")
_ADDRESS = re.compile(r"https://[0-9a-zA-Z.-]+(:[0-9]{1,5})?([/?][0-9a-zA-Z._~:/?&=%+-]*)?")
_NAMES = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")


class Visit(NamedTuple):
    """Who comes, and which visit of theirs it is; only salted hashes of both are stored."""

    person: str
    visit: str


def visit_of(arguments: MultiDict[str, str]) -> Visit | None:
    """The ids in the address; None where there are none.

    Raises:
        Refused: some of the ids lack, come twice, or are not what Prolific sends.
    """
    given = {name: arguments.getlist(name) for name in _NAMES if name in arguments}
    if not given:
        return None
    fits = {name: _PERSON if name == "PROLIFIC_PID" else _OTHER for name in _NAMES}
    if any(len(given.get(name, ())) != 1 or not fits[name].fullmatch(given[name][0]) for name in _NAMES):
        text = "This link is not complete. Please open the study again from its page on Prolific."
        raise Refused("panel ids", 400, text)
    return Visit(given["PROLIFIC_PID"][0].lower(), given["SESSION_ID"][0])


def address(text: str, where: str) -> str:
    """Where to send a participant: an https address as it is, the page of Prolific for a code, '' for ''.

    Raises:
        SpecError: neither of the two.
    """
    if not text or _ADDRESS.fullmatch(text):
        return text
    if not _CODE.fullmatch(text):
        expected = "a completion code, or an address that begins with https://"
        raise SpecError("participants cannot be sent there", where=where, found=repr(text), expected=expected)
    return COMPLETE + text


def origin(url: str) -> str:
    """Scheme, host and port of an address, as a Content-Security-Policy names it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
