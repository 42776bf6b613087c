"""The pytest plugin: `assert_robust` as a fixture, its settings as a marker, its reports in one folder.

Loaded by pytest wherever charpy is installed; it imports nothing of charpy that a test does not use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from charpy.api import Result

LONGEST_NAME = 150
"""Characters of a folder's name."""

MARKER = (
    "charpy(**settings): settings of the fixture assert_robust, such as norm, th, at_least, queries; "
    "those of a test win over those of its class and module"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--charpy-out` and the setting `charpy_out`."""
    about = "folder for the reports of assert_robust, one folder a test; the test's tmp_path if not given"
    parser.getgroup("charpy").addoption("--charpy-out", metavar="DIR", default=None, help=about)
    parser.addini("charpy_out", about, default="")


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known, also where pytest is strict."""
    config.addinivalue_line("markers", MARKER)


def _name(node: str) -> str:
    """The folder of a test: what its name says, and a digest where that could be another test's, too."""
    test, _, case = node.partition("[")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", node).strip("-.")
    if (
        len(name) <= LONGEST_NAME
        and re.fullmatch(r"[\w./:]*", test, re.ASCII)
        and re.fullmatch(r"[\w.]*\]?", case, re.ASCII)
    ):
        return name
    return f"{name[-LONGEST_NAME:]}-{hashlib.sha256(node.encode(errors='backslashreplace')).hexdigest()[:8]}"


@pytest.fixture
def assert_robust(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Result]:
    """`charpy.testing.assert_robust` with the settings of the markers `charpy`; the reports of each call are kept."""
    from charpy.testing.robust import assert_robust as check

    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("charpy"))):
        settings |= marker.kwargs
    chosen = request.config.getoption("charpy_out") or request.config.getini("charpy_out")
    folder = request.config.rootpath / chosen / _name(request.node.nodeid) if chosen else tmp_path / "charpy"
    calls = 0

    def robust(model: object, images: Any = None, labels: Any = None, **more: Any) -> Result:
        __tracebackhide__ = True
        nonlocal calls
        calls += 1
        out = folder if calls == 1 else folder.with_name(f"{folder.name}-{calls}")
        (out / "run.charpy").unlink(missing_ok=True)  # of an earlier session, perhaps with another model
        return check(model, images, labels, **{"out": out, **settings, **more})

    return robust
