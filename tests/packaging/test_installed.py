"""The package as it is installed: `make test` runs this against the source tree, and again against the wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOTS = ("charpy", "charpy_plugins", "charpy_models")


def folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def charpy(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("charpy")
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.skipif("CHARPY_INSTALLED_COPY" not in os.environ, reason="only where `make test` has installed the wheel")
@pytest.mark.parametrize("package", [*ROOTS, "charpy_corner_attack"])
def test_it_is_the_wheel_that_is_tested(package):
    assert folder(package).is_relative_to(Path(sys.prefix).resolve())


@pytest.mark.parametrize("package", ROOTS)
def test_types_and_files_travel_with_the_package(package):
    assert (folder(package) / "py.typed").is_file()


def test_weights_and_templates_travel_too():
    assert list((folder("charpy_models") / "weights").glob("*.safetensors"))
    assert list((folder("charpy") / "reports" / "templates").iterdir())
    assert list((folder("charpy") / "scaffold" / "templates").glob("*.j2"))


def test_nothing_else_is_installed_under_a_name_of_its_own():
    files = distribution("charpy").files or []
    tops = {path.parts[0] for path in files if not path.parts[0].startswith("..")}
    assert {top for top in tops if not top.endswith((".dist-info", ".pth", "__pycache__"))} <= set(ROOTS)


def test_the_program_is_there_and_knows_its_version(tmp_path):
    done = charpy("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"charpy {version('charpy')}\n"), done.stderr


def test_every_component_can_be_used_the_strangers_too(tmp_path):
    done = charpy("plugins", "--check", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    kinds = {row["kind"] for row in json.loads(done.stdout)["components"]}
    assert {"assess", "digits-cnn", "few_pixel", "threshold", "digits", "corner_pixels"} <= kinds


@pytest.mark.slow
def test_the_main_job_works(tmp_path):
    command = ("assess", "digits-cnn", "--data", "digits", "--samples", "8", "--queries", "60", "--out", "out")
    done = charpy(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["dataset"]["samples"] == 8
    assert "<svg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
