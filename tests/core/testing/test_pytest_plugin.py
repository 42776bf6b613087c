"""The pytest plugin in a pytest of its own, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = """
    import pytest
    import torch
    from charpy.testing import assert_robust as plain
    from charpy.testing.linear import LinearModel

    pytestmark = pytest.mark.charpy(queries=50, battery="fast", th=8, even_if_weak=True)
    MODEL = LinearModel(torch.full((1, 4, 4), 1 / 16), -127.5 / 255)
    IMAGES = (torch.tensor([100, 126, 130, 200] * 4) / 255)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    LABELS = MODEL.predict(IMAGES).argmax(1)

    @pytest.mark.charpy(at_least=0.2)
    def test_passes(assert_robust):
        assert_robust(MODEL, IMAGES, LABELS)
        assert_robust(MODEL, IMAGES, LABELS, th=1)

    @pytest.mark.charpy(at_least=0.9, th=9)
    def test_fails(assert_robust):
        assert_robust(MODEL, IMAGES, LABELS)

    def test_plain():
        assert plain is not None
"""


@pytest.fixture
def inner(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs pytest on TESTS in a process of its own."""
    (tmp_path / "test_model.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "charpy.testing.pytest_plugin", "-p", "no:cacheprovider"]
        settings = ["-W", "error", "--strict-markers", "--basetemp", str(tmp_path / "base"), "test_model.py", *options]
        return subprocess.run([*command, *settings], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_markers_give_the_settings_and_the_report_is_named(inner, tmp_path):
    done = inner("--charpy-out", "reports", "--junit-xml", "tests.xml")
    assert "2 passed, 1 failed" in done.stdout or "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "linf th=9 robust_accuracy lower bound >= 0.9 even if weak" in done.stdout
    assert "8 witnesses: 8 of 16 correctly classified images are broken" in done.stdout
    folder = tmp_path / "reports" / "test_model.py-test_fails"
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert "robust.py" not in done.stdout  # the traceback is the user's
    made = {path.name for path in (tmp_path / "reports").iterdir()}
    assert made == {"test_model.py-test_fails", "test_model.py-test_passes", "test_model.py-test_passes-2"}
    message = ElementTree.parse(tmp_path / "tests.xml").find(".//failure").get("message")
    assert "8 witnesses" in message


@pytest.mark.slow
def test_reports_go_to_the_tests_own_folder_by_default(inner, tmp_path):
    done = inner("-k", "fails")
    assert done.returncode == 1
    assert len(list((tmp_path / "base").glob("test_fails0/charpy/report.html"))) == 1


NODES = ["t.py::test_it", "t.py::test_it[a]", "t.py::test_it[a/b]", "t.py::test_it[a-b]", "t.py::test_it[a b]",
         "t.py::test_it[../../etc]", "t/py::test_it", "t.py::test_it[\u202e]", "t.py::test_it[\udc80]",
         "t.py::" + "a" + "x" * 200, "t.py::" + "b" + "x" * 200]  # fmt: skip


def test_no_two_tests_share_a_folder_and_none_leaves_its_own():
    from charpy.testing.pytest_plugin import _name

    names = [_name(node) for node in NODES]
    assert names[:2] == ["t.py-test_it", "t.py-test_it-a"]
    assert len(set(names)) == len(NODES)
    assert all(name.isascii() and len(name) < 200 and Path(name).name == name and name[0] not in "-." for name in names)


def test_the_plugin_loads_nothing_until_a_test_asks_for_it():
    code = "import charpy.testing.pytest_plugin, sys; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_registered_under_its_own_name():
    """So that `-p` and the entry point are one plugin, not two."""
    import tomllib

    root = Path(__file__).resolve().parents[3]
    points = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
    assert points == {"charpy.testing.pytest_plugin": "charpy.testing.pytest_plugin"}
