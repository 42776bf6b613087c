"""ImageNet kinds, over a stand-in for timm: what is asked of it, and what is made of its answers."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from charpy.analysis.summary import RunSummary
from charpy.errors import ModelError, UnsafeFileError
from charpy.evaluator import evaluate
from charpy.interfaces.model import Output
from charpy.pixels import as_images, unpack
from charpy.plugins import registry
from charpy.records import WitnessRow
from charpy.runfile import RunFile
from charpy.specs import ModelSpec, RunSpec, parse
from charpy.subjects import subject_of
from charpy.threat import Access, Grid
from charpy_models.imagenet import InceptionV3, ResNetV2

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
KINDS = {"inception_v3": (InceptionV3, "inception_v3.tf_in1k"), "resnetv2_50": (ResNetV2, "resnetv2_50.a1h_in1k")}


class Network(torch.nn.Module):
    """Averages, then a layer: as small as a classifier of any image can be."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 7
        self.fc = torch.nn.Linear(3, 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.mean((2, 3)))


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, dict[str, Any]]]:
    """What the stand-in was asked for; timm's own names of its functions and of what they return."""
    calls: list[tuple[str, dict[str, Any]]] = []
    timm, data = ModuleType("timm"), ModuleType("timm.data")

    def create_model(name: str, **options: Any) -> Network:
        calls.append((name, options))
        if name.startswith("inception_v3.no"):
            raise RuntimeError("Invalid pretrained tag")
        return Network()

    def resolve_model_data_config(network: Network) -> dict[str, Any]:
        assert isinstance(network, Network)
        return {"input_size": (3, 40, 40), "mean": MEAN, "std": STD, "crop_pct": 0.9, "interpolation": "bicubic"}

    timm.create_model, data.resolve_model_data_config, timm.data = create_model, resolve_model_data_config, data
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_opens_timms_network_of_that_name(asked, kind):
    cls, title = KINDS[kind]
    model = subject_of(ModelSpec(reference=kind), registry()).open()
    assert type(model) is cls
    assert asked == [(title, {"pretrained": True})]
    assert (model.input_shape, model.num_classes, model.output) == ((3, 40, 40), 7, Output.LOGITS)
    assert (model.access, model.module.training) == (Access.GRADIENTS, False)
    assert model.fingerprint()["architecture"] == f"timm:{title}"
    assert model.notes == []


def test_images_are_normalised_as_timm_states(asked):
    model = InceptionV3()
    images = torch.rand(4, 3, 40, 40)
    normal = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(model.predict(images), model.module[1](normal))


def test_the_parameters_reach_it(asked):
    model = InceptionV3(InceptionV3.Params(tag="tf_adv_in1k", weights="random", image_size=64, device="cpu"))
    assert asked == [("inception_v3.tf_adv_in1k", {"pretrained": False})]
    assert model.input_shape == (3, 64, 64)
    assert model.notes == ["the weights are random: nothing was learnt"]


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(asked):
    state = torch.get_rng_state()
    first, again = (ResNetV2(ResNetV2.Params(weights="random")) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_a_file(asked, tmp_path):
    torch.manual_seed(3)
    network = Network()
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    model = ResNetV2(ResNetV2.Params(weights=str(path)))
    assert asked == [("resnetv2_50.a1h_in1k", {"pretrained": False})]
    assert torch.equal(model.module[1].fc.weight, network.fc.weight)
    other = ResNetV2(ResNetV2.Params(weights="random"))
    assert model.fingerprint()["weights"] != other.fingerprint()["weights"]


def test_weights_that_do_not_fit_are_refused(asked, tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"fc.weight": torch.zeros(7, 3)}, path)
    with pytest.raises(ModelError, match=r"do not fit.*resnetv2_50\.a1h_in1k"):
        ResNetV2(ResNetV2.Params(weights=str(path)))
    path.write_bytes(b"nothing")
    with pytest.raises(UnsafeFileError, match="not a weight file"):
        ResNetV2(ResNetV2.Params(weights=str(path)))
    with pytest.raises(ModelError, match="no such weight file"):
        ResNetV2(ResNetV2.Params(weights=str(tmp_path / "none.safetensors")))


@pytest.mark.parametrize(("weights", "hint"), [("pretrained", "FILE.safetensors"), ("random", "list_models")])
def test_what_timm_refuses_is_refused_with_its_words(asked, weights, hint):
    with pytest.raises(ModelError, match=r"inception_v3\.no") as caught:
        InceptionV3(InceptionV3.Params(tag="no", weights=weights))
    assert "Invalid pretrained tag" in caught.value.found
    assert hint in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_without_timm_the_kind_is_listed_and_says_what_to_install(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert kind in {entry.kind for entry in registry().entries("models")}
    with pytest.raises(ModelError, match="needs the package timm") as caught:
        registry().create("models", kind)
    assert caught.value.hint == "pip install 'charpy[imagenet]'"


class Textured(Network):
    """Sees noise beside the average: a gradient that is rough from pixel to pixel, for smooth attacks to even out."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(1, 1, *images.shape[2:], generator=torch.Generator().manual_seed(1))
        return self.fc((images * (1 + 2 * noise)).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["none", "8bit"])
def test_smooth_attacks_on_a_folder_of_large_pictures(asked, tmp_path, monkeypatch, grid):
    """299 x 299 pictures, from the spec to the report: the way that ImageNet takes."""
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
    monkeypatch.setattr(sys.modules["timm"], "create_model", lambda name, **options: Textured())
    random = np.random.default_rng(0)
    for name, level in (("dark", 90), ("light", 150)):
        (tmp_path / "data" / name).mkdir(parents=True)
        pixels = np.clip(level + random.normal(0, 20, (299, 299, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / name / "0.png")
    state = {"fc.weight": torch.zeros(7, 3), "fc.bias": torch.tensor([0.0, 0, -9, -9, -9, -9, -9])}
    state["fc.weight"][1] = torch.tensor([1.0, 0.1, 0.05])
    state["fc.bias"][1] = -float(state["fc.weight"][1] @ ((0.47 - torch.tensor(MEAN)) / torch.tensor(STD)))
    weights = str(tmp_path / "net.safetensors")
    safetensors.torch.save_file(state, weights)
    descent = {"steps": 6, "searches": 1, "learning_rate": 0.1, "constant": 1e5}
    smooth = {"alpha": 0.997, "solver": "cg", "iterations": 10}
    spec = {
        "name": "large", "contest": True, "grid": grid,
        "data": {"kind": "folder", "params": {"path": str(tmp_path / "data")}},
        "models": [{"kind": "inception_v3", "params": {"weights": weights, "image_size": 299}}],
        "threats": [{
            "norm": "l2", "levels": [20_000], "queries": 20,
            "battery": [
                {"kind": "pgd2", "params": {"steps": 4}}, {"kind": "spgd2", "params": {"steps": 4, **smooth}},
                {"kind": "cw", "params": descent}, {"kind": "scw", "params": {**descent, **smooth}},
            ],
        }],
    }  # fmt: skip
    evaluate(parse(RunSpec, spec), tmp_path / "run.charpy")
    with RunFile.open(tmp_path / "run.charpy") as run:
        report = RunSummary.of(run).assessments[0]
        rough = {(row.attack, row.sample): roughness(run, row, Grid(grid)) for row in run.witnesses(0)}
    assert report.status == "valid"
    assert [part.success.count for part in report.characteristics] == [2, 2, 2, 2]
    for sample in range(2):
        assert rough["spgd2", sample] < 0.8 * rough["pgd2", sample]
        assert rough["scw", sample] < rough["cw", sample]


def roughness(run: RunFile, witness: WitnessRow, grid: Grid) -> float:
    """Mean difference of neighbours in a perturbation, over the mean size of its values."""
    images = (unpack(data, (3, 299, 299), grid) for data in (run.original(witness.sample), witness.image))
    original, perturbed = (as_images(image) for image in images)
    delta = perturbed - original
    return float(delta.diff(dim=2).abs().mean() / delta.abs().mean())
