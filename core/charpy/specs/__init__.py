"""The Pydantic specs of a run, their JSON Schema, and strict parsing with errors that name the nearest field."""

from charpy.specs.component import AttackSpec, ComponentSpec, DataSpec, Spec
from charpy.specs.model import Attackers, ModelSpec
from charpy.specs.parsing import parse
from charpy.specs.run import CertifySpec, LimitsSpec, RunSpec, schema
from charpy.specs.threat import OwnLevels, ThreatSpec, levels_under

__all__ = [
    "AttackSpec",
    "Attackers",
    "CertifySpec",
    "ComponentSpec",
    "DataSpec",
    "LimitsSpec",
    "ModelSpec",
    "OwnLevels",
    "RunSpec",
    "Spec",
    "ThreatSpec",
    "levels_under",
    "parse",
    "schema",
]
