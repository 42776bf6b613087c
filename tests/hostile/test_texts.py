"""Half of a character (a lone surrogate), wherever a name comes in: no file, database or digest can hold one.

JSON says it as `\\ud800`, a command line or a folder as bytes that are no UTF-8, a Python program by itself.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from charpy.api import assess
from charpy.arrays import ArrayDataset
from charpy.errors import CharpyError, DataError, ModelError, SpecError, storable
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import AttackSpec, ComponentSpec, DataSpec, ModelSpec, RunSpec, ThreatSpec
from charpy.subjects import Subject
from charpy.threat import Norm

HALF = "half \ud800"
WHAT = "a text with half of a character"


def spec(place: str) -> dict:
    """A good spec but for one text."""
    battery = {"kind": "corner_pixels"}
    whole = {
        "name": "whole",
        "data": {"kind": "shades", "params": {"size": 8}},
        "models": [{"name": "whole", "reference": "brightness"}],
        "threats": [{"norm": "l0", "levels": [1], "queries": 10, "battery": [battery]}],
        "certify": {"certifiers": []},
    }
    part = whole
    *outer, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    for step in outer:
        part = part[step]
    part[last] = HALF
    return whole


PLACES = (
    "name",
    "data.kind",
    "data.params.size",
    "models.0.name",
    "models.0.reference",
    "models.0.kind",
    "threats.0.norm",
    "threats.0.battery.0.name",
    "threats.0.battery.0.kind",
)


@pytest.mark.parametrize("place", PLACES)
def test_in_a_spec(refused, folder, place):
    (folder / "spec.json").write_text(json.dumps(spec(place)))
    error = refused(SpecError, WHAT, "run", "spec.json", "--out", "out")
    assert str(error.found) == f"{place}: 'half \\ud800'"
    assert error.where == "spec.json"


@pytest.mark.parametrize("key", [HALF, "\udfff"])
def test_in_the_name_of_a_field(refused, folder, key):
    (folder / "spec.json").write_text(json.dumps({**spec("name"), "name": "whole", key: 1}))
    refused(SpecError, WHAT, "run", "spec.json", "--out", "out")
    inside = spec("models.0.name")
    inside["models"][0] = {"reference": "brightness", "params": {key: {key: 1}}}
    (folder / "spec.json").write_text(json.dumps(inside))
    error = refused(SpecError, WHAT, "run", "spec.json", "--out", "out")
    assert str(error.found).startswith("models.0.params: ")


@pytest.mark.parametrize(
    "arguments",
    [("assess", "bright\udcff", "--data", "shades"), ("assess", "net\udcff.onnx", "--data", "shades")],
)
def test_on_the_command_line(refused, arguments):
    refused(SpecError, WHAT, *arguments, "--out", "out")


def test_in_the_name_of_a_file(refused, folder, by_brightness):
    for number, label in enumerate(("dark", "light")):
        (folder / "pictures" / label).mkdir(parents=True)
        Image.fromarray(np.full((6, 6), 77 + 51 * number, np.uint8)).save(folder / "pictures" / label / "a.png")
    try:
        (folder / "pictures" / "dark" / "a.png").rename(folder / "pictures" / "dark" / "a\udcff.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    model, *rest = by_brightness
    error = refused(DataError, WHAT, "assess", model, "--data", "pictures", *rest)
    assert "a\\udcff.png" in str(error.found)


PYTHON = {
    "an attack": ({"threats": (ThreatSpec(norm=Norm.L0, battery=(AttackSpec(kind="random", name=HALF),)),)}, SpecError),
    "a model": ({"models": (ModelSpec(reference=HALF),)}, SpecError),
    "a parameter": ({"models": (ModelSpec(kind="callable", params={"reference": HALF}),)}, SpecError),
    "a metric": ({"metrics": (ComponentSpec(kind="x", params={"x": [{HALF: 1}]}),)}, SpecError),
}


@pytest.mark.parametrize("case", PYTHON)
def test_in_a_spec_that_python_made(tmp_path, case):
    changed, kind = PYTHON[case]
    fields = {"data": DataSpec(kind="digits", samples=2), "models": (ModelSpec(reference="digits-cnn"),), **changed}
    with pytest.raises(kind, match=WHAT) as caught:
        evaluate(RunSpec(**fields), tmp_path / "run.charpy")
    assert_helpful(caught.value)
    assert not list(tmp_path.iterdir())


PIXELS = np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4)
LABELS = np.zeros(4, np.int64)


def first(images):
    """Class 0, always."""
    return np.zeros(len(images), np.int64)


def test_in_names_of_python_objects(tmp_path):
    with pytest.raises(SpecError, match=WHAT) as caught:
        assess(first, PIXELS, LABELS, name=HALF)
    assert_helpful(caught.value)
    with pytest.raises(DataError, match=WHAT) as caught:
        ArrayDataset(PIXELS, LABELS, ids=("a", "b", "c", HALF))
    assert_helpful(caught.value)
    for named in ({"name": HALF}, {"class_names": ("zero", HALF)}):
        data = ArrayDataset(PIXELS, LABELS, ids=("a", "b", "c", "d"), **named)
        with pytest.raises(DataError, match=WHAT) as caught:
            assess(first, data=data)
        assert_helpful(caught.value)
    run = RunSpec(data=DataSpec(kind="x"), models=(ModelSpec(reference="x"),))
    data = ArrayDataset(PIXELS, LABELS)
    with pytest.raises(ModelError, match=WHAT) as caught:
        evaluate(run, tmp_path / "run", subjects=[Subject(HALF, "x", lambda: None)], dataset=data)
    assert_helpful(caught.value)
    assert not list(tmp_path.iterdir())


def assert_helpful(error: CharpyError) -> None:
    assert error.where
    assert "\\ud8" in str(error.found)
    assert error.expected
    assert error.hint
    str(error).encode("utf-8")


def test_what_a_stranger_says_costs_one_unit_and_not_the_run(monkeypatch):
    def fail(self, task):
        raise RuntimeError(HALF)

    monkeypatch.setattr(registry().load("attacks", "pointwise"), "run", fail)
    result = assess(first, PIXELS, LABELS, norms=("l0",), levels=(1,), queries=10, battery="standard")
    (threat,) = result.assessment.threats
    assert (threat.invalid, threat.held) == (4, 0)
    with RunFile.open(result.path) as run:
        said = {row.reason for _, attack, row in run.results(0) if attack == "pointwise"}
    assert said == {"attack pointwise failed: RuntimeError: half \\ud800"}


@pytest.mark.parametrize("text", ["whole", "\u00e9\U0001f600", ""])
def test_whole_texts_stay(text):
    assert storable(text) == text
    assert storable(text + HALF) == text + "half \\ud800"
