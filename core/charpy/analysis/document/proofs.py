"""What was proven, and the bracket between proof and witness."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from charpy.analysis.document.part import Part


class ProofPart(Part):
    """What one certifier was asked under one norm at one level; level 0 stands for a certifier that was not asked."""

    norm: str
    certifier: str
    th: int
    arithmetic: str = Field(description="`real`: proven of the network in real numbers; `float-sound`: of the program")
    asked: int = Field(description="samples that it was asked about")
    proven: int
    seconds: float
    reason: str = Field(default="", description="why it could not be asked, or failed")
    detail: dict[str, Any] = Field(default_factory=dict, description="its parameters, and what else its proofs rest on")


class SampleBracket(Part):
    """One correctly classified sample: the largest level proven, and the smallest that contains a witness."""

    id: str
    proven: int = Field(description="0: nothing is proven")
    broken: int | None = Field(description="None: it was not broken")


class BracketPart(Part):
    """Under one norm, from below and from above."""

    norm: str
    sentences: tuple[str, ...] = Field(description="one a level, in words")
    samples: tuple[SampleBracket, ...]
