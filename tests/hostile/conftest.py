"""What the tests of hostile inputs share: a command that must be refused, and the folders that it reads."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from charpy.cli import app
from charpy.errors import CharpyError

REST = (
    "--norms",
    "l0",
    "--levels",
    "1",
    "--queries",
    "10",
    "--battery",
    "corner_pixels",
    "--certify",
    "0",
    "--out",
    "out",
)


@pytest.fixture(scope="session", autouse=True)
def _quick_measurement() -> Iterator[None]:
    """How long the query engine may measure: speed is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; its Python modules are not the next test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CHARPY_SUPERVISE", "0")  # the process of its own is tested elsewhere
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def charpy(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `charpy ...` in this process: its exit code, what it printed, what it complained about."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = app.run_program([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(
    folder: Path, charpy: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CharpyError]:
    """Runs `charpy ...`, which must be refused in every respect that counts; returns the error.

    That is: an error of exactly the type `kind` that says `say`, names what, where, what was found or expected and
    the next step, all of them on stderr and nothing on stdout; an exit code that is its own and not 0; and not one
    file made, changed or lost.
    """
    errors: list[BaseException | None] = []
    complain = app._complain

    def overheard(message: str, code: int) -> int:
        errors.append(sys.exc_info()[1])
        return complain(message, code)

    monkeypatch.setattr(app, "_complain", overheard)

    def run(kind: type[CharpyError], say: str, *arguments: object) -> CharpyError:
        before = contents(folder)
        code, out, err = charpy(*arguments)
        assert errors, f"not refused, but exit code {code}: {out}"
        error = errors.pop()
        assert type(error) is kind, f"{type(error).__name__}: {error}"
        assert isinstance(error, CharpyError)
        assert code == error.exit_code
        assert code != 0
        assert say in str(error)
        assert error.where, f"does not say where: {error}"
        assert "found" in str(error) or "expected" in str(error), f"neither found nor expected: {error}"
        assert error.hint, f"no next step: {error}"
        assert "next:" in err
        assert not out
        assert contents(folder) == before
        return error

    return run


def contents(folder: Path) -> dict[str, str]:
    """Every file and link under `folder`, with a digest; Python's caches are nobody's data."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        name = str(path.relative_to(folder))
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    return found


@pytest.fixture(scope="session")
def on_shades() -> tuple[str, ...]:
    """The rest of a command about a model: a run of a second."""
    return ("--data", "shades", "--samples", "8", *REST)


@pytest.fixture(scope="session")
def by_brightness() -> tuple[str, ...]:
    """The same of a command about data, with the model first."""
    return ("brightness", *REST)
