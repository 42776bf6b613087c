"""A small study made by hand, and a real run with the study of it: what the tests of the human study share."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from charpy.cli.app import run_program
from charpy.cli.runs import opened_runs
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.specs import RunSpec, parse
from charpy_plugins.study.build.build import build
from charpy_plugins.study.build.spec import read_build_spec
from charpy_plugins.study.document import Condition, Consent, Kind, Source, Stimulus, StudyDocument, Texts, Threat
from charpy_plugins.study.studyfile import Study, digest, read_study, write_study

CONDITIONS = (("benign", Kind.BENIGN), ("imperceptible", Kind.WITNESS), ("perceptible", Kind.PAINTED))


def png(pixels: np.ndarray, size: int) -> bytes:
    image = Image.fromarray(pixels).resize((8 * size, 8 * size), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def digits_study(
    originals: int = 30,
    original_names: Callable[[int], str] = str,
    sizes: tuple[int, ...] = (1, 2),
    **changes: Any,
) -> Study:
    """Three conditions of the same originals; what fools the model is taken for the next digit but two.

    Args:
        originals: images a condition.
        original_names: id of an original by its number.
        sizes: at which every image is shown.
        changes: fields of the document.
    """
    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)
    stimuli, images = [], {}
    for place, (name, kind) in enumerate(CONDITIONS):
        for number in range(originals):
            label = int(digits.target[number])
            shown = pixels[number].copy()
            if place == 1:
                shown[0, number % 8] ^= 0x40
            if place == 2:
                shown = pixels[(number + 3) % len(pixels)]
            identity = hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:16]
            every = {size: png(shown, size) for size in sizes}
            images |= {(identity, size): data for size, data in every.items()}
            stimuli.append(
                Stimulus(
                    id=identity,
                    condition=name,
                    original=original_names(number),
                    label=label,
                    prediction=label if kind is Kind.BENIGN else (label + 3) % 10,
                    attack="" if kind is Kind.BENIGN else "one_pixel",
                    digests=tuple(map(digest, every.values())),
                )
            )
    fields: dict[str, Any] = {
        "name": "Digits before people",
        "source": Source(
            dataset="digits",
            shape=(1, 8, 8),
            class_names=tuple("0123456789"),
            model="digits-cnn",
            threat=Threat(norm="L0", level=5),
        ),
        "labels": tuple("0123456789"),
        "conditions": tuple(Condition(name=name, kind=kind, text=f"made as {kind}") for name, kind in CONDITIONS),
        "stimuli": tuple(stimuli),
        "sizes": sizes,
        "texts": Texts(title="Digits", instructions="Look.", consent=Consent(version="1", text="I agree.")),
    }
    return Study(StudyDocument(**(fields | changes)), images)


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    return digits_study


@pytest.fixture(scope="session")
def study() -> Study:
    return digits_study()


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """hostile.py, loaded by its place: texts that do harm where they are not escaped."""
    name = "charpy_tests_study_hostile"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("hostile.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


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
def built_path(study_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of `study_run`: benign, imperceptible and perceptible, 30 originals; copy it before changing it."""
    path = tmp_path_factory.mktemp("study") / "digits.study"
    options = {"fill": FILL, "stimuli": 30, "name": "digits", "seed": 1}
    spec = read_build_spec(None, options, ("benign", "imperceptible", "perceptible"))
    with opened_runs([study_run]) as runs:
        write_study(build(runs, spec, "digits", registry()).study, path)
    return path


@pytest.fixture(scope="session")
def built(built_path: Path) -> Study:
    """The study in `built_path`."""
    return read_study(built_path)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where chromium is."""
    pytest.importorskip("playwright")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs a browser: no `chromium` on the PATH")
    return found


@pytest.fixture(scope="session")
def engine(chromium: str) -> Iterator[Any]:
    """Starts browsers, `engine.launch(executable_path=chromium)`; a process has room for one Playwright only."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium
