"""Which model, behind which defences, facing whom."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from charpy.specs.component import ComponentSpec, Spec


class Attackers(StrEnum):
    """What the attacks of a defended model see of its defences; the judge always asks the defended model.

    Attributes:
        ADAPTIVE: the defended model, with the gradients that its defences pass on (exact, BPDA or EOT).
        STATIC: the model without its defences: what transfers counts. A defence that only this does not break hides
            gradients, no more (Athalye, Carlini & Wagner 2018).
        BLACK_BOX: the defended model's scores or labels, no gradients.
    """

    ADAPTIVE = "adaptive"
    STATIC = "static"
    BLACK_BOX = "black-box"


class ModelSpec(Spec):
    """A model: a reference that a wrapper recognises, or a kind with parameters; and the defences around it."""

    name: str | None = Field(default=None, min_length=1, description="name in the report; the reference if not given")
    reference: str | None = Field(
        default=None,
        description="zoo name, FILE.onnx, package.module:callable, "
        "weights.safetensors@architecture or http://HOST:PORT/v2/models/NAME",
    )
    kind: str | None = Field(default=None, description="model kind, instead of a reference")
    params: dict[str, Any] = Field(default_factory=dict, description="see `charpy describe model KIND`")
    defenses: tuple[ComponentSpec, ...] = Field(default=(), description="wrapped around the model, first one innermost")
    attackers: tuple[Attackers, ...] = Field(
        default=(Attackers.ADAPTIVE,),
        min_length=1,
        description="what attacks see of the defences: static (the model without them), adaptive, black-box; several "
        "give as many rows of the report, side by side",
    )

    @model_validator(mode="after")
    def _reference_or_kind(self) -> ModelSpec:
        if (self.reference is None) == (self.kind is None):
            raise ValueError("give either `reference` or `kind`")
        if not self.defenses and Attackers.STATIC in self.attackers:
            raise ValueError("a static attacker overlooks defences, and this model has none; name them in `defenses`")
        return self

    @property
    def title(self) -> str:
        """The name in the report."""
        return self.name or self.reference or self.kind or ""

    @property
    def base_title(self) -> str:
        """The same without what its attackers see (`by_attacker`)."""
        return self.title.removesuffix(f" ({self.attackers[0]})")

    def by_attacker(self) -> tuple[ModelSpec, ...]:
        """One model for each of its attackers, named after them where there are several."""
        if len(self.attackers) == 1:
            return (self,)
        return tuple(
            self.model_copy(update={"name": f"{self.title} ({attacker})", "attackers": (attacker,)})
            for attacker in dict.fromkeys(self.attackers)
        )
