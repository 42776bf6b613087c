"""A whole run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from charpy.gates import Gate, check_about
from charpy.specs.component import ComponentSpec, DataSpec, Spec
from charpy.specs.model import ModelSpec
from charpy.specs.threat import ThreatSpec
from charpy.threat import Grid, Norm


class CertifySpec(Spec):
    """What is to be proven beside the attacks."""

    certifiers: Literal["auto"] | tuple[ComponentSpec, ...] = Field(
        default="auto", description="certifiers, in order; auto: those of charpy that support the model; none: ()"
    )
    seconds: float | None = Field(
        default=None, ge=0, description="no proof begins later, for one model under one norm; no limit if not given"
    )


class LimitsSpec(Spec):
    """What the process that computes may use; a unit of work that takes more is given up, and named."""

    unit_seconds: float | None = Field(default=None, gt=0, description="one unit of work; no limit if not given")
    silent_seconds: float = Field(
        default=1800.0, gt=0, description="without a sign of life, such as an answer of the model: it hangs"
    )
    memory_gib: float | None = Field(
        default=None, gt=0, description="of resident memory, 2^30 bytes; no limit if not given"
    )


class RunSpec(Spec):
    """A whole run: models x threats on one dataset."""

    name: str = Field(default="assessment", min_length=1, description="title of the report")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of every random draw of every attack")
    data: DataSpec
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    threats: tuple[ThreatSpec, ...] = Field(
        default=(ThreatSpec(norm=Norm.L0), ThreatSpec(norm=Norm.LINF)), min_length=1
    )
    metrics: tuple[ComponentSpec, ...] = Field(
        default=(), description="computed on every witness by the judge; the five norms (0..255 scale) if not given"
    )
    certify: CertifySpec = CertifySpec(certifiers=())
    grid: Grid = Field(default=Grid.EIGHT_BIT, description="8bit: a witness survives a PNG; none: real values")
    carry: bool = Field(
        default=True, description="a witness counts at every larger level; false: independent levels, as in the paper"
    )
    contest: bool = Field(
        default=False,
        description="every attack faces every correctly classified sample at every level, whatever the others broke, "
        "and the report says what each does alone: success, mean distortion, operating characteristic",
    )
    shard: int = Field(default=256, ge=1, le=65536, description="samples in one unit of work")
    batch_size: int | None = Field(default=None, ge=1, description="model rows in one batch; measured if not given")
    executor: ComponentSpec = Field(default=ComponentSpec(kind="inline"), description="where units are computed")
    limits: LimitsSpec = LimitsSpec()
    gates: tuple[Gate, ...] = Field(
        default=(),
        description="what the run must show, or the exit code is 1: lines such as 'linf th=3 robust_accuracy >= 0.4'; "
        "no part of what the run is about, so that a gate may be added later",
    )

    @field_validator("models")
    @classmethod
    def _one_for_each_attacker(cls, models: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
        return tuple(single for model in models for single in model.by_attacker())

    @model_validator(mode="after")
    def _names_are_unique(self) -> RunSpec:
        titles = [model.title for model in self.models]
        if len(set(titles)) < len(titles):
            raise ValueError(f"models need distinct names, found {titles}")
        norms = [threat.norm for threat in self.threats]
        if len(set(norms)) < len(norms):
            raise ValueError(f"each norm may stand once, found {[str(n) for n in norms]}")
        return self

    @model_validator(mode="after")
    def _a_contest_has_levels(self) -> RunSpec:
        others = [str(threat.norm) for threat in self.threats if not isinstance(threat.levels, tuple)]
        if self.contest and others:
            raise ValueError(f"a contest is held at levels that are given, and those of {others} are not")
        return self

    @model_validator(mode="after")
    def _gates_are_about_this_run(self) -> RunSpec:
        titles = {name for model in self.models for name in (model.title, model.base_title)}
        check_about(self.gates, titles, {threat.norm: threat.shown for threat in self.threats})
        return self


def schema() -> dict[str, Any]:
    """JSON Schema of a run spec."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunSpec.model_json_schema()}
