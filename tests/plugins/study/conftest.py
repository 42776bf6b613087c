"""A real run and the study of it, which the tests of every part of the human study share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from charpy.cli.app import run_program
from charpy.cli.runs import opened_runs
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.specs import RunSpec, parse
from charpy_plugins.study.build.build import build
from charpy_plugins.study.build.spec import read_build_spec
from charpy_plugins.study.studyfile import Study, read_study, write_study

MODES = {
    "contest": True,
    "data": {"kind": "digits", "samples": 40},
    "models": [{"reference": "digits-cnn"}],
    "threats": [
        {
            "norm": "linf",
            "levels": [60],
            "battery": [
                {"kind": "ssim_pgd", "name": mode, "params": {"mode": mode, "steps": 8}}
                for mode in ("imperceptible", "perceptible")
            ],
        }
    ],
}
"""Both modes of an attack on the same images; 38 of the 40 are classified correctly, and both modes break all 38."""

FILL = {
    "researcher": "A. Researcher",
    "institution": "the University",
    "ethics board and approval number": "its ethics board (2026-17)",
    "payment": "1.50 GBP",
    "how long": "10 years",
    "contact": "study@example.org",
}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def charpy(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs `charpy ...` in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = run_program([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: digits-cnn on 40 digits, `ssim_pgd` in both modes at Linf 60/255."""
    path = tmp_path_factory.mktemp("study-run") / "run.charpy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.05)
        evaluate(parse(RunSpec, MODES), path)
    return path


@pytest.fixture(scope="session")
def study_path(study_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of `study_run`: benign, imperceptible and perceptible, 30 originals; copy it before changing it."""
    path = tmp_path_factory.mktemp("study") / "digits.study"
    options = {"fill": FILL, "stimuli": 30, "name": "digits", "seed": 1}
    spec = read_build_spec(None, options, ("benign", "imperceptible", "perceptible"))
    with opened_runs([study_run]) as runs:
        write_study(build(runs, spec, "digits", registry()).study, path)
    return path


@pytest.fixture(scope="session")
def study(study_path: Path) -> Study:
    """The study in `study_path`."""
    return read_study(study_path)
