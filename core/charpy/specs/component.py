"""A component by its kind, and what the spec of an attack and of a dataset say besides."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of every spec: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentSpec(Spec):
    """A component by kind, with its parameters."""

    kind: str = Field(min_length=1, description="kind name, as `charpy plugins` lists it")
    params: dict[str, Any] = Field(default_factory=dict, description="see `charpy describe HOOK KIND`")


class AttackSpec(ComponentSpec):
    """One attack of a battery."""

    name: str | None = Field(default=None, description="name in the report; the kind if not given")
    queries: int | None = Field(default=None, ge=1, description="its own budget of model rows per sample and level")


class DataSpec(ComponentSpec):
    """The dataset and which of its samples are used."""

    samples: int | None = Field(default=None, ge=1, description="how many; all if not given")
    seed: int = Field(default=0, ge=0, lt=2**63, description="which ones: a random draw without replacement")
