"""What tests of plugins and models need: contract classes to inherit, exactly known models, `assert_robust`.

    from charpy.testing import AttackContract

    class TestMine(AttackContract):
        component = Mine

The classes need no test runner; pytest collects them, and `TestMine.breaches()` runs them without one.
"""

from __future__ import annotations

from charpy.testing.attacks import AttackContract
from charpy.testing.certifiers import CertifierContract
from charpy.testing.contract import Contract, ContractError
from charpy.testing.datasets import DatasetContract
from charpy.testing.defenses import DefenseContract, DetectorContract
from charpy.testing.metrics import MetricContract
from charpy.testing.models import ModelContract
from charpy.testing.robust import assert_robust
from charpy.testing.trainings import TrainingDefenseContract

__all__ = [
    "AttackContract",
    "CertifierContract",
    "Contract",
    "ContractError",
    "DatasetContract",
    "DefenseContract",
    "DetectorContract",
    "MetricContract",
    "ModelContract",
    "TrainingDefenseContract",
    "assert_robust",
]
