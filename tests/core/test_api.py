"""`charpy.assess` in Python: a torch module, an ONNX file, any callable."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import charpy
from charpy.errors import DataError, ModelError, SpecError, UnknownNameError
from charpy.gates import read_gate
from charpy.plugins import registry
from charpy.testing.linear import LinearModel

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randint(0, 256, (12, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8).numpy()
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
MEDIAN = (
    float((torch.from_numpy(IMAGES) / 255 * WEIGHT).flatten(1).sum(1).median()) + 0.01
)  # no image lies on the boundary
LABELS = ((torch.from_numpy(IMAGES) / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long().numpy()
CHEAP = {"levels": (1, 3), "queries": 150}


class Module(torch.nn.Module):
    """The linear classifier as a torch module."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(30, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.stack([torch.zeros(30), WEIGHT.flatten()]))
            self.layer.bias.copy_(torch.tensor([0.0, -MEDIAN]))

    def forward(self, images):
        return self.layer(images.flatten(1))


def numpy_scores(images):
    value = (np.asarray(images) * WEIGHT.numpy()).reshape(len(images), -1).sum(1) - MEDIAN
    return np.stack([np.zeros_like(value), value], 1)


@pytest.fixture
def onnx_path(tmp_path):
    model = registry().load("models", "torch").from_module(Module(), input_shape=(1, 6, 5), num_classes=2)
    model.export(tmp_path / "linear.onnx")
    return tmp_path / "linear.onnx"


def counts(result):
    return [(t.norm, t.th, t.samples, t.clean_error) for t in result.assessment.threats]


def test_a_torch_module_a_callable_an_onnx_file_and_a_model_get_a_report(onnx_path, tmp_path):
    results = {
        "torch": charpy.assess(Module(), IMAGES, LABELS, **CHEAP),
        "callable": charpy.assess(numpy_scores, IMAGES, LABELS, **CHEAP),
        "onnx": charpy.assess(onnx_path, IMAGES, LABELS, **CHEAP),
        "model": charpy.assess(LinearModel(WEIGHT, -MEDIAN), IMAGES, LABELS, **CHEAP),
    }
    expected = [("l0", 1, 12, 0), ("l0", 3, 12, 0), ("linf", 1, 12, 0), ("linf", 3, 12, 0)]
    for name, result in results.items():
        assert counts(result) == expected, name
        assert result.assessment.status == "valid"
    broken = {name: [t.broken for t in result.assessment.threats] for name, result in results.items()}
    assert broken["torch"][1] > 0
    assert max(abs(a - b) for name in broken for a, b in zip(broken[name], broken["torch"], strict=True)) <= 1


def test_the_result_shows_itself_and_saves_by_suffix(tmp_path):
    result = charpy.assess(numpy_scores, IMAGES, LABELS, name="mine", **CHEAP)
    text = str(result)
    assert "mine" in text
    assert "12 of 12" in text
    assert result.table().row_count == 2
    assert "<script" not in result._repr_html_()
    page = result.save(tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    document = json.loads(result.save(tmp_path / "report.json").read_text())
    assert document["model"]["name"] == "mine"
    assert result.save(tmp_path / "r.junit.xml").read_text().startswith("<?xml")
    assert result.save(tmp_path / "r.md").read_text().startswith("# ")
    assert result.save(tmp_path / "r.model-card.md").read_text().startswith("---\nmodel-index:")
    gated = result.save(tmp_path / "r.sarif", gates=[read_gate("clean_accuracy > 0.9999")]).read_text()
    assert "gate failed: clean_accuracy" in gated
    with pytest.raises(SpecError, match="suffix"):
        result.save(tmp_path / "report.docx")


def test_out_keeps_the_run_and_the_same_call_resumes_it(tmp_path):
    first = charpy.assess(numpy_scores, IMAGES, LABELS, out=tmp_path, **CHEAP)
    heard = []
    second = charpy.assess(numpy_scores, IMAGES, LABELS, out=tmp_path, listen=heard.append, **CHEAP)
    assert first.assessment == second.assessment
    assert heard == []
    with pytest.raises(charpy.errors.IdentityError, match=r"spec\.seed"):
        charpy.assess(numpy_scores, IMAGES, LABELS, out=tmp_path, seed=1, **CHEAP)


def test_images_off_the_8_bit_grid_are_assessed_with_real_values():
    images = torch.rand(8, 1, 6, 5, generator=torch.Generator().manual_seed(1)).numpy()
    labels = numpy_scores(images).argmax(1)
    result = charpy.assess(numpy_scores, images, labels, levels=(10,), queries=300)
    assert result.assessment.dataset.grid == "none"
    assert sum(t.broken for t in result.assessment.threats) > 0
    with pytest.raises(DataError, match="8-bit grid"):
        charpy.assess(numpy_scores, images, labels, grid="8bit", **CHEAP)


def test_what_cannot_be_assessed_is_refused_with_the_next_step():
    with pytest.raises(ModelError, match="gives LABELS"):
        charpy.assess(lambda images: numpy_scores(images).argmax(1), IMAGES, LABELS, **CHEAP, battery="black-box")
    with pytest.raises(ModelError, match="no model wrapper"):
        charpy.assess(42, IMAGES, LABELS)
    with pytest.raises(UnknownNameError, match="digits-cnn"):
        charpy.assess("digits-cmn", IMAGES, LABELS)
    with pytest.raises(DataError, match="range"):
        charpy.assess(numpy_scores, IMAGES.astype(np.float32), LABELS)
    with pytest.raises(SpecError, match=r"outside 1\.\.127"):
        charpy.assess(numpy_scores, IMAGES, LABELS, levels=(0,))


def test_the_callers_module_and_global_state_stay_as_they_are():
    module = Module().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the global generator is what is checked
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    charpy.assess(module, IMAGES, LABELS, **CHEAP)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_importing_charpy_loads_neither_torch_nor_a_plugin():
    code = "import charpy, sys; print(charpy.__version__, 'torch' in sys.modules, 'charpy_plugins' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert output[1:] == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'asess'"):
        charpy.asess  # noqa: B018


def test_a_model_that_exits_later_does_not_end_the_callers_script():
    calls = []

    def leaving(images):
        calls.append(len(images))
        if len(calls) > 12:
            raise SystemExit(0)
        return numpy_scores(images)

    with pytest.raises(ModelError, match="tried to end the process"):
        charpy.assess(leaving, IMAGES, LABELS, **CHEAP)
