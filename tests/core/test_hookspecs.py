"""Meta-tests of the hooks: each is documented, each is used in a test, and the registry knows them all."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from charpy import hookspecs
from charpy.plugins import HOOKS

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(name for name, value in vars(hookspecs).items() if name.startswith("charpy_") and callable(value))
EVENTS = ("charpy_outcomes", "charpy_run_finished", "charpy_run_started")


def test_components_and_events_are_all_there_is():
    assert sorted([*(f"charpy_{hook}" for hook in HOOKS), *EVENTS]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_one_sentence(name):
    text = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert text.endswith(".")
    assert "\n\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_documented_with_its_arguments(name):
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    signature = f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})"
    assert f"`{signature}`" in page


def test_the_page_names_no_hook_that_is_not_there():
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(charpy_[a-z_]+)\(", page)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_used_in_a_test(name):
    used = re.compile(rf"def {name}\(|\b{name}=")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert any(used.search(path.read_text(encoding="utf-8")) for path in tests)
