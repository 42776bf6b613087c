"""What a verification found: check by check, how much agrees, what does not, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = "charpy/verification/1"

Verdict = Literal["agrees", "disagrees", "incomplete"]

BEYOND = (
    "that `held` samples could not be broken by a better attack",
    "how often the attacks asked, and how long they took",
    "that proofs hold: `charpy certify` computes them anew",
    "planted examples, and figures over other draws of randomised defences",
    "what only the run saw: its warnings, notes, rejected claims, and why work was lost",
)
"""What no check looks at, as this needs the attacks, the certifiers or chance."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Disagreement(_Part):
    """One record that is not what it should be."""

    record: str = Field(description="which one: table and key, or what it is about")
    found: str
    expected: str


class Check(_Part):
    """One thing that was looked at."""

    name: str
    of: str = Field(default="", description="the model, where it is about one")
    checked: int = Field(default=0, ge=0, description="records that were looked at")
    agree: int = Field(default=0, ge=0, description="of these, those that are what they should be")
    unconfirmed: int = Field(default=0, ge=0, description="of these, those that chance alone may explain")
    disagreements: tuple[Disagreement, ...] = ()
    not_verified: tuple[str, ...] = Field(default=(), description="what could not be looked at, and why")
    notes: tuple[str, ...] = ()


class Verification(_Part):
    """The verification of one run file."""

    format: Literal["charpy/verification/1"] = SCHEMA
    run: str
    run_id: str = ""
    verdict: Verdict
    checks: tuple[Check, ...]
    beyond: tuple[str, ...] = Field(default=BEYOND, description="what no check looks at")

    @classmethod
    def of(cls, run: str, run_id: str, checks: Sequence[Check]) -> Verification:
        """With the verdict that follows from the checks."""
        wrong = any(check.disagreements for check in checks)
        partial = any(check.not_verified for check in checks)
        verdict: Verdict = "disagrees" if wrong else "incomplete" if partial else "agrees"
        return cls(run=run, run_id=run_id, verdict=verdict, checks=tuple(checks))


class Tally:
    """Counts one check while it goes on."""

    def __init__(self, name: str, of: str = "") -> None:
        self._name, self._of = name, of
        self._checked = self._unconfirmed = self._wrong = 0
        self._found: list[Disagreement] = []
        self._missing: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def right(self, records: int = 1) -> None:
        """So many records are what they should be."""
        self._checked += records

    def wrong(self, record: str, found: object, expected: object) -> None:
        """A record is not."""
        self._checked += 1
        self._wrong += 1
        self._found.append(Disagreement(record=record, found=str(found), expected=str(expected)))

    def equal(self, record: str, found: object, expected: object) -> bool:
        """Count a record as right where both are equal."""
        if found == expected:
            self.right()
        else:
            self.wrong(record, found, expected)
        return found == expected

    def unsure(self) -> None:
        """A record may be what it should be."""
        self._checked += 1
        self._unconfirmed += 1

    def missing(self, what: str) -> None:
        """Something could not be looked at; said once."""
        self._missing.setdefault(what)

    def note(self, text: str) -> None:
        """Something to know; said once."""
        self._notes.setdefault(text)

    def check(self) -> Check:
        """What was counted."""
        return Check(
            name=self._name,
            of=self._of,
            checked=self._checked,
            agree=self._checked - self._wrong - self._unconfirmed,
            unconfirmed=self._unconfirmed,
            disagreements=tuple(self._found),
            not_verified=tuple(self._missing),
            notes=tuple(self._notes),
        )
