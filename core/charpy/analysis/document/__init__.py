"""The document that a run comes down to: `report.json`, one per model, and the source of every other format."""

from charpy.analysis.document.assessment import Assessment, AssessmentSet
from charpy.analysis.document.attacks import AttackPart, CharacteristicPart, LostPart, RejectedPart, ScatterPart
from charpy.analysis.document.gates import GatePart
from charpy.analysis.document.part import Part, Share
from charpy.analysis.document.proofs import BracketPart, ProofPart, SampleBracket
from charpy.analysis.document.repeatable import comparable
from charpy.analysis.document.subject import AttackersPart, DatasetPart, ModelPart, RedrawPart
from charpy.analysis.document.threats import (
    AgreementPart,
    AucPart,
    ClassPart,
    Interval,
    MinimalPart,
    RobustAccuracy,
    SafePart,
    ThreatPart,
)
from charpy.analysis.document.trust import DrillPart, Grade, IndicatorKind, IndicatorPart

__all__ = [
    "AgreementPart",
    "Assessment",
    "AssessmentSet",
    "AttackPart",
    "AttackersPart",
    "AucPart",
    "BracketPart",
    "CharacteristicPart",
    "ClassPart",
    "DatasetPart",
    "DrillPart",
    "GatePart",
    "Grade",
    "IndicatorKind",
    "IndicatorPart",
    "Interval",
    "LostPart",
    "MinimalPart",
    "ModelPart",
    "Part",
    "ProofPart",
    "RedrawPart",
    "RejectedPart",
    "RobustAccuracy",
    "SafePart",
    "SampleBracket",
    "ScatterPart",
    "Share",
    "ThreatPart",
    "comparable",
]
