"""`charpy export`: the ONNX file answers like the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy.plugins import registry


def test_the_exported_file_answers_like_the_model(charpy, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = charpy("export", "digits-cnn", "digits.onnx")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "digits.onnx"
    assert "max_difference: " in done.out
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "digits.onnx"), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: images})
    model = registry().create("models", "digits-cnn")
    with torch.no_grad():
        expected = model.predict(torch.from_numpy(images).to(model.device)).cpu().numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_the_exported_file_can_be_assessed(charpy, quick):
    assert charpy("export", "digits-cnn", "digits.onnx").code == 0
    done = charpy("assess", "digits.onnx", "--data", "digits", *quick)
    assert done.code == 0, done.err


def test_a_model_without_a_graph_is_refused_and_leaves_nothing(charpy, tmp_path):
    done = charpy("export", "brightness", "out.onnx")
    assert done.code == 2
    assert "cannot be exported" in done.err
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written(charpy, tmp_path):
    for out in (tmp_path, tmp_path / "nowhere" / "out.onnx"):
        done = charpy("export", "digits-cnn", out)
        assert done.code == 2
        assert "cannot be written" in done.err
