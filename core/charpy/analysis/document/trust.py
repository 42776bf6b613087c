"""How far a figure can be trusted: its grade, and the signs and drills that it comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charpy.analysis.document.part import Part

Grade = Literal["supported", "weak", "invalid"]

IndicatorKind = Literal[
    "zero_gradients",
    "loss_still_rising",
    "more_still_helps",
    "black_box_better",
    "transfer_better",
    "unbounded_fails",
    "planted",
    "planted_battery",
    "randomised",
    "batch_dependent",
    "stateful",
]


class IndicatorPart(Part):
    """One sign that an attack may have failed instead of the model having held, fired or not."""

    kind: IndicatorKind
    norm: str | None = Field(description="None: about the model, whatever the norm")
    th: int | None = Field(description="the level that it is about; None: every level of the norm")
    step: int | None = Field(description="of the attack in its battery, from 0; None where no attack is meant")
    attack: str | None
    value: float | None = Field(description="what was measured; None where there was nothing to measure")
    limit: float = Field(description="beyond it the indicator fires; see docs/concepts.md for each kind")
    fired: bool
    finding: str = Field(description="what was seen, in words")
    advice: str = Field(default="", description="what to do next; empty unless it fired")


class DrillPart(Part):
    """How one attack did where an adversarial example was planted, and without any bound."""

    norm: str
    th: int = Field(description="level at which examples were planted, the largest of the run")
    step: int = Field(description="of the attack in its battery, from 0")
    attack: str
    access: str = Field(description="what it needs of a model")
    planted: int = Field(description="samples with a planted example")
    found: int = Field(description="those of them that the attack broke")
    unbounded: int = Field(default=0, description="samples that it attacked with the whole image box allowed")
    reached: int = Field(default=0, description="those of them that it broke")
    failure: str = ""
