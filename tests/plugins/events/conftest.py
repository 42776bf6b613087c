"""A run made by hand, and its events."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from charpy.plugins import Registry
from charpy.specs import RunSpec, parse

COUNTS = ({"broken": 1, "held": 3}, {"broken": 0, "held": 4})
HOSTILE = "a:b\x1b[31m\u202e <script>\n"


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """tests/core/analysis/synthetic.py; the tests are no package, so it is loaded by its place."""
    place = Path(__file__).parents[2] / "core" / "analysis" / "synthetic.py"
    spec = importlib.util.spec_from_file_location("charpy_tests_synthetic", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def happen(synthetic: ModuleType, tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Tells a listener of a run of one model with a hostile name: two units, then its end; returns the registry.

    With `last` it is killed after so many units; with `first` it goes on after as many.
    """
    plan = synthetic.Plan(HOSTILE, finds=synthetic.FRAIL.finds)
    with synthetic.build(tmp_path / "run.charpy", (plan,), drills=synthetic.DRILLS) as run:

        def tell(listener: object, first: int = 0, last: int = len(COUNTS), run_id: str = "f00d") -> Registry:
            registry = Registry([])
            registry.add(listener, "tracker")
            before = {name: sum(counts[name] for counts in COUNTS[:first]) for name in COUNTS[0]}
            started = {"units": 8, "run_id": run_id, "done": first, "outcomes": before}
            registry.notify("charpy_run_started", spec=parse(RunSpec, {**run.spec, "name": HOSTILE}), **started)
            for counts in COUNTS[first:last]:
                registry.notify("charpy_outcomes", unit={"norm": "l0", "th": 1}, outcomes=counts)
            if last == len(COUNTS):
                registry.notify("charpy_run_finished", path=str(run.path))
            return registry

        yield tell


@pytest.fixture
def expected() -> dict[str, float]:
    """Figures of the run, worked out by hand from the plan in synthetic.py."""
    return {
        "valid": 1.0,
        "clean_accuracy": 7 / 8,
        "l0/th3/adversarial_accuracy": 3 / 7,
        "l0/th3/robust_accuracy_not_broken": 0.5,
        "l0/th3/robust_accuracy_proven": 0.0,
        "l0/th3/supported": 1.0,
        "linf/th3/robust_accuracy_not_broken": 5 / 8,
        "linf/th3/supported": 0.0,
    }
