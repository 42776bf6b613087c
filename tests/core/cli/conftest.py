"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from charpy.cli.app import run_program

QUICK = ("--samples", "12", "--queries", "80", "--levels", "1,3", "--battery", "dual-paper", "--certify", "0")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def charpy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Done]]:
    """Runs `charpy ...` in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = run_program([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    yield run
    for name, module in list(sys.modules.items()):  # a module of this test's folder is not the next test's
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Done]:
    """Runs `charpy ...` in a process of its own, with the plugins of `strangers` if the test uses it."""

    def run(*arguments: object, **environment: str) -> Done:
        command = [sys.executable, "-m", "charpy", *map(str, arguments)]
        paths = [str(tmp_path / "strangers"), os.environ.get("PYTHONPATH", "")]
        own = {key: value for key, value in os.environ.items() if key != "CHARPY_SUPERVISE"}
        environment = {**own, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def stranger(tmp_path: Path) -> Callable[..., None]:
    """Installs a plugin of one module for `program`, as pip would."""
    folder = tmp_path / "strangers"
    folder.mkdir()

    def install(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = folder / f"{name}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        (info / "entry_points.txt").write_text(f"[charpy]\n{name} = {name}\n")

    return install


@pytest.fixture(scope="session", autouse=True)
def _quick_measurement() -> Iterator[None]:
    """How long the query engine may measure: speed is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.05)
        yield


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options of a run of a few seconds."""
    return QUICK


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of digits-cnn; tests must not change it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run_program(["assess", "digits-cnn", "--data", "digits", "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def unread() -> Iterator[int]:
    """The file descriptor of a pipe nobody reads any more: what `head` leaves behind, without its race."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)
