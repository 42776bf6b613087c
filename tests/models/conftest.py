"""Fixtures of the tests of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from charpy.cli.app import run_program


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks train many times faster on one thread when the cores are shared; the count is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Random images are the same in every run; the generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def charpy(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs `charpy train ...` in an empty working directory, with the text of a spec as it.yaml."""
    monkeypatch.chdir(tmp_path)

    def run(spec: str, *options: str) -> Done:
        (tmp_path / "it.yaml").write_text(spec)
        capsys.readouterr()
        code = run_program(["train", "it.yaml", *options])
        return Done(code, *capsys.readouterr())

    return run
