"""What tests of plugins and models need: contract classes to inherit, exactly known models, `assert_robust`.

    from charpy.testing import AttackContract

    class TestMine(AttackContract):
        component = Mine

The classes need no test runner; pytest collects them, and `TestMine.breaches()` runs them without one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "AttackContract": "attacks",
    "CertifierContract": "certifiers",
    "Contract": "contract",
    "ContractError": "contract",
    "DatasetContract": "datasets",
    "DefenseContract": "defenses",
    "DetectorContract": "defenses",
    "MetricContract": "metrics",
    "ModelContract": "models",
    "TrainingDefenseContract": "trainings",
    "assert_robust": "robust",
}


def __getattr__(name: str) -> Any:
    """Each is imported when it is asked for: pytest loads this package's plugin whether a test needs torch or not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
