"""The synthetic runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from charpy.analysis.summary import RunSummary


def _synthetic() -> ModuleType:
    """tests/core/analysis/synthetic.py; the tests are no package, so it is loaded by its place."""
    name = "charpy_tests_synthetic"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("synthetic.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    return _synthetic()


@pytest.fixture(scope="module")
def summary(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunSummary]:
    """Both models of the synthetic run, levels 1, 3, 5, 10."""
    with synthetic.build(tmp_path_factory.mktemp("run") / "run.charpy") as run:
        yield RunSummary.of(run)
