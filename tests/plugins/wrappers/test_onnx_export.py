"""Export: the file answers like torch, in another program; what cannot be exported is refused and nothing is left."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from charpy.errors import ModelError
from charpy_plugins.wrappers import onnx_export
from charpy_plugins.wrappers.onnx_export import export_onnx
from charpy_plugins.wrappers.onnx_file import OnnxModel


def test_export_answers_like_the_module_in_onnx_runtime_and_in_the_reference(small_cnn, tmp_path):
    module = small_cnn(3).eval()
    path = tmp_path / "small.onnx"
    done = export_onnx(module, (3, 6, 6), path)
    assert (done.path, done.bytes, done.exporter, done.images) == (path, path.stat().st_size, "torchscript", 16)
    assert 0 <= done.max_difference < 1e-4
    images = torch.rand(9, 3, 6, 6)
    expected = module(images).detach()
    model = OnnxModel.wrap(path)
    assert model is not None
    assert (model.input_shape, model.num_classes, model.batch) == ((3, 6, 6), 4, None)
    torch.testing.assert_close(model.predict(images), expected, atol=1e-5, rtol=1e-5)
    (reference,) = ReferenceEvaluator(onnx.load(path)).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(reference, expected.numpy(), atol=1e-4, rtol=1e-4)
    assert list(tmp_path.iterdir()) == [path]


def test_the_module_is_exported_in_eval_mode_and_keeps_its_own(small_cnn, tmp_path):
    module = small_cnn()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export_onnx(module, (1, 6, 6), tmp_path / "small.onnx")
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    operators = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert "Dropout" not in operators


def test_an_export_that_answers_differently_is_refused_and_leaves_no_file(tmp_path):
    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:  # the tracer sees zeros, and fixes the other branch
                return x.flatten(1)
            return -x.flatten(1)

    with pytest.raises(ModelError, match="does not answer like the module"):
        export_onnx(Branches(), (1, 2, 2), tmp_path / "b.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_cannot_be_exported_is_refused_in_silence(tmp_path, capfd):
    class Singular(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x[:, 0])

    with pytest.raises(ModelError, match="linalg_svdvals"):
        export_onnx(Singular(), (1, 4, 4), tmp_path / "s.onnx")
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="needs onnxscript")
@pytest.mark.parametrize("rows", [1, 7])
def test_the_newer_exporter_takes_over_where_the_older_one_refuses(small_cnn, tmp_path, monkeypatch, rows):
    def refuse(*_: object) -> bytes:
        raise RuntimeError("unsupported")

    monkeypatch.setattr(onnx_export, "_by_tracing", refuse)
    module = small_cnn().eval()
    assert export_onnx(module, (1, 6, 6), tmp_path / "small.onnx").exporter == "dynamo"
    model = OnnxModel.wrap(tmp_path / "small.onnx")
    images = torch.rand(rows, 1, 6, 6)
    torch.testing.assert_close(model.predict(images), module(images).detach(), atol=1e-5, rtol=1e-5)


def test_without_the_newer_exporters_package_the_hint_says_so(small_cnn, tmp_path, monkeypatch):
    def refuse(*_: object) -> bytes:
        raise RuntimeError("unsupported")

    monkeypatch.setattr(onnx_export, "_by_tracing", refuse)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"unsupported[\s\S]*onnxscript"):
        export_onnx(small_cnn(), (1, 6, 6), tmp_path / "small.onnx")


def test_a_forward_on_a_gpu_that_onnx_runtime_cannot_use_is_refused(small_cnn, monkeypatch):
    # a provider list without CUDA is what ONNX Runtime comes back with when its libraries are missing
    monkeypatch.setattr("charpy_plugins.wrappers.onnx_session._providers", lambda device: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="ONNX Runtime runs on the CPU: its CUDA provider did not start"):
        onnx_export.forward_through_onnx(small_cnn().eval(), (1, 6, 6), torch.device("cuda"))
