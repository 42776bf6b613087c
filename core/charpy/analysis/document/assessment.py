"""The whole document: one assessment, or one a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from charpy.analysis.document.attacks import AttackPart, CharacteristicPart, LostPart, RejectedPart, ScatterPart
from charpy.analysis.document.gates import GatePart
from charpy.analysis.document.part import Part, Share
from charpy.analysis.document.proofs import BracketPart, ProofPart
from charpy.analysis.document.subject import AttackersPart, DatasetPart, ModelPart, RedrawPart
from charpy.analysis.document.threats import AgreementPart, AucPart, ClassPart, MinimalPart, SafePart, ThreatPart
from charpy.analysis.document.trust import DrillPart, IndicatorPart


class Assessment(Part):
    """The whole of `report.json`."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["charpy.report/1"] = Field(default="charpy.report/1", alias="schema")
    name: str
    verdict: str = Field(description="the result in one sentence")
    status: Literal["valid", "invalid", "unsound"]
    status_reason: str = ""
    seed: int
    model: ModelPart
    dataset: DatasetPart
    clean_accuracy: float | None
    clean_interval: tuple[float, float] | None
    clean: Share
    invalid: Share
    threats: tuple[ThreatPart, ...]
    own_levels: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="by norm, sample ids and their levels, where each has its own"
    )
    attacks: tuple[AttackPart, ...]
    characteristics: tuple[CharacteristicPart, ...] = Field(default=(), description="of a contest")
    scatter: tuple[ScatterPart, ...] = Field(default=(), description="of metrics beside the norms")
    safe: tuple[SafePart, ...]
    auc: tuple[AucPart, ...]
    agreement: tuple[AgreementPart, ...]
    per_class: tuple[ClassPart, ...]
    minimal: tuple[MinimalPart, ...] = ()
    proofs: tuple[ProofPart, ...] = ()
    brackets: tuple[BracketPart, ...] = ()
    redraws: tuple[RedrawPart, ...] = ()
    rejected: tuple[RejectedPart, ...] = ()
    gates: tuple[GatePart, ...] = Field(default=(), description="where one failed, a command exits with 1")
    lost: tuple[LostPart, ...] = Field(default=(), description="where there is any, no command exits with 0")
    indicators: tuple[IndicatorPart, ...] = ()
    drills: tuple[DrillPart, ...] = ()
    warnings: tuple[str, ...] = ()
    spec: dict[str, Any]
    plugins: dict[str, str] = Field(description="every component that took part -> package and version")
    environment: dict[str, Any]


class AssessmentSet(Part):
    """`report.json` of a run over several models: one assessment each, in the order of the spec."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["charpy.reports/1"] = Field(default="charpy.reports/1", alias="schema")
    name: str
    attackers: tuple[AttackersPart, ...] = ()
    reports: tuple[Assessment, ...]
