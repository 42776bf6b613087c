"""Files of other people on real images, against the accuracy that was measured without charpy."""

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
from charpy_plugins.wrappers.architectures import load_into
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.torch_module import TorchModel
from charpy_plugins.wrappers.weights import load_weights

pytestmark = pytest.mark.data

MODELS = ["mnist-net_256x2", "Convnet_avgpool", "cifar10_small", "resnet_2b", "cifar_base_kw"]
COUNT = 200


def cnn(channels: int, widths: tuple[int, int], side: int, hidden: int) -> torch.nn.Sequential:
    """Two 4x4 convolutions of stride 2 and two linear layers, as alpha-beta-CROWN and auto_LiRPA name their layers."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, widths[0], 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(widths[0], widths[1], 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(widths[1] * (side // 4) ** 2, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, 10),
    )


def mnist_cnn() -> torch.nn.Sequential:
    return cnn(1, (16, 32), 28, 100)


def cifar_cnn() -> torch.nn.Sequential:
    return cnn(3, (16, 32), 32, 100)


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


@pytest.mark.parametrize(
    ("file", "module", "mean", "std"),
    [
        ("lirpa_kw_mnist.pth", mnist_cnn(), 0.0, 1.0),
        ("abcrown_mnist_cnn_a_adv.model", mnist_cnn(), 0.1307, 0.3081),
        ("abcrown_cifar_cnn_a_mix.model", cifar_cnn(), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ],
    ids=["before torch 1.6", "zip", "zip, colour"],
)
def test_weights_of_others_load_and_answer_as_measured(data_dir, first_images, file, module, mean, std):
    folder = data_dir / "weights"
    if not (folder / "weights.csv").is_file():
        pytest.skip("CHARPY_DATA holds no weights/ folder")
    with (folder / "weights.csv").open() as lines:
        row = next(row for row in csv.DictReader(lines) if row["file"] == file)
    loaded = load_weights(folder / file)
    assert loaded.sha256 == row["sha256"]
    load_into(module, loaded.state, file, row["architecture"])
    pixels, labels = first_images[row["dataset"]]
    images, labels = torch.from_numpy(pixels.copy()).float() / 255, torch.from_numpy(labels.astype(np.int64))
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (mean, std))
    answer = TorchModel.from_module(module).predict((images - mean) / std)
    share = float(row["clean_test_acc_percent"]) / 100
    correct = int((answer.argmax(1) == labels).sum())
    assert binomtest(correct, COUNT, share).pvalue > 0.001, f"{correct} of {COUNT}, expected {share:.2%}"
