"""What the store answers: who may go on, what comes next, or why not."""

from __future__ import annotations

from typing import Final, NamedTuple

from charpy_plugins.study.responses import Participant

DECLINED: Final = "declined"
"""The event of somebody who did not agree."""


class Refused(Exception):  # noqa: N818 - no error of ours: what a participant did cannot be done
    """A request that changes nothing; `kind` is one word for the log, `status` the HTTP status."""

    def __init__(self, kind: str, status: int, text: str) -> None:
        self.kind, self.status, self.text = kind, status, text
        super().__init__(text)


class Admission(NamedTuple):
    """Who may go on: what the cookie holds, and the participant."""

    token: str
    participant: Participant


class Question(NamedTuple):
    """The next thing to answer.

    Attributes:
        position: 0, 1, ...; `total` with the attention checks.
        stimulus: id of the image.
        asked: the label that an attention check asks for; None of a question.
    """

    position: int
    total: int
    stimulus: str
    asked: int | None
