"""ONNX files of other people: the VNN-COMP classifiers on real images, against the accuracy that others measured."""

from __future__ import annotations

import csv
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from charpy.engine import QueryEngine
from charpy.interfaces.model import Output
from charpy.preflight import preflight
from charpy_plugins.wrappers.onnx_file import OnnxModel

pytestmark = pytest.mark.data

MODELS = ["mnist-net_256x2", "Convnet_avgpool", "cifar10_small", "resnet_2b", "cifar_base_kw"]
COUNT = 200


@pytest.fixture(scope="module")
def first_images(data_dir):
    """The first test images and labels of MNIST and CIFAR-10, read without charpy."""
    mnist = data_dir / "mnist"
    pixels = np.frombuffer(gzip.decompress((mnist / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8)[16:]
    digits = np.frombuffer(gzip.decompress((mnist / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8)[8:]
    with lzma.open(data_dir / "cifar10" / "test_batch.bin.xz") as file:
        rows = np.frombuffer(file.read(COUNT * 3073), np.uint8).reshape(COUNT, 3073)
    return {
        "mnist": (pixels[: COUNT * 784].reshape(COUNT, 1, 28, 28), digits[:COUNT]),
        "cifar10": (rows[:, 1:].reshape(COUNT, 3, 32, 32), rows[:, 0]),
    }


def described(data_dir: Path, name: str) -> dict[str, str]:
    folder = data_dir / "vnncomp"
    if not (folder / "models.csv").is_file():
        pytest.skip("CHARPY_DATA holds no vnncomp/ folder")
    with (folder / "models.csv").open() as file:
        return next(row for row in csv.DictReader(file) if name in row["model"])


@pytest.mark.parametrize("name", MODELS)
def test_clean_accuracy_is_what_others_measured(data_dir, first_images, name):
    row = described(data_dir, name)
    numbers = {key: tuple(float(value) for value in row[f"input_{key}"].split()) for key in ("mean", "std")}
    model = OnnxModel(OnnxModel.Params(path=str(data_dir / "vnncomp" / row["model"]), **numbers))
    pixels, labels = first_images[row["dataset"]]
    images, labels = torch.from_numpy(pixels.copy()).float() / 255, torch.from_numpy(labels.astype(np.int64))
    correct = int((model.predict(images).argmax(1) == labels).sum())
    share = float(row["clean_test_acc_percent_measured"]) / 100
    assert binomtest(correct, COUNT, share).pvalue > 0.001, f"{correct} of {COUNT}, expected {share:.2%}"
    found = preflight(model, images, labels)
    assert (found.num_classes, found.output, found.deterministic) == (10, Output.LOGITS, True)
    assert model.fingerprint()["onnx"] == row["sha256"]


@pytest.mark.parametrize("name", ["resnet_2b", "cifar_base_kw", "mnist-net_256x2"])
def test_graphs_made_for_one_image_are_queried_in_batches(data_dir, first_images, name):
    row = described(data_dir, name)
    model = OnnxModel(OnnxModel.Params(path=str(data_dir / "vnncomp" / row["model"])))
    assert model.batch == 1
    images = torch.from_numpy(first_images[row["dataset"]][0].copy()).float() / 255
    engine = QueryEngine.measure(model, Output.LOGITS, images[:64])
    assert engine.chosen.name == "onnxruntime, batch axis freed"
    torch.testing.assert_close(engine.answers(images), model.predict(images), atol=1e-4, rtol=1e-4)
