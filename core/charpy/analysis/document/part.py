"""What every part of the document is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of every part of the document."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,  # JSON has neither
        json_schema_serialization_defaults_required=True,
    )


class Share(Part):
    """A count out of a total with its two-sided 95 % Clopper-Pearson interval; all None when the total is 0."""

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None
