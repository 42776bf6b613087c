"""The zoo: its listing, its weights against their cards, and its measured accuracy."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from charpy.errors import ModelError
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.threat import Access
from charpy_models import plugin
from charpy_models.defenses import defenses_of, robust_at
from charpy_models.recipes import RECIPES
from charpy_models.zoo import Cifar10ResNet8Robust, DigitsCNN, MnistRobust, ZooModel, read_weights, weights_folder
from charpy_plugins.datasets.cifar10 import Cifar10
from charpy_plugins.datasets.digits import Digits
from charpy_plugins.datasets.mnist import Mnist


def loaded(target: str) -> type[ZooModel]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


CLASSES = {kind: loaded(target) for kind, target in plugin.ZOO.items()}
GENERATORS = {kind: loaded(target) for kind, target in plugin.GENERATORS.items()}
ZOO = [CLASSES[kind] for kind in plugin.charpy_models() if kind in CLASSES]
"""Those with weights."""
ROBUST = (MnistRobust, Cifar10ResNet8Robust)
DATA = {"mnist": Mnist, "cifar10": Cifar10}
LEAST = {
    "digits-cnn": 0.97,
    **{f"mnist-{name}": 0.985 for name in ("allconv", "nin", "resnet", "wideresnet", "densenet", "capsnet")},
    **{"mnist-lenet": 0.99, "mnist-c4": 0.985, "mnist-c4-at": 0.985, "mnist-robust": 0.97},
    **{f"cifar10-{name}": 0.74 for name in ("cnn", "allconv", "nin", "resnet", "wideresnet", "densenet")},
    **{"cifar10-lenet": 0.7, "cifar10-capsnet": 0.6, "cifar10-resnet8-robust": 0.6},
    **{"mnist-lenet-at": 0.95, "mnist-lenet-distilled": 0.98, "mnist-lenet-trades": 0.95, "mnist-lenet-tvm": 0.97},
    **{"mnist-lenet-thermometer": 0.98, "mnist-lenet-noise": 0.97, "mnist-lenet-ablation": 0.9},
    **{"digits-embedding": 0.97, "mnist-embedding": 0.985},
    **{"cifar10-resnet-at": 0.4, "cifar10-resnet-tvm": 0.4},
}
"""Accuracy that is worth shipping."""


def measured(model, dataset) -> int:
    """Correct answers of `model.predict` on the whole dataset."""
    correct = 0
    with torch.no_grad():
        for start in range(0, len(dataset), 500):
            samples = dataset.read(range(start, min(start + 500, len(dataset))))
            correct += int((model.predict(samples.images).argmax(1) == samples.labels).sum())
    return correct


def defended(model):
    """Behind the defences of the recipe, as a run spec would have it: the first of a recipe is the outermost."""
    for spec in reversed(model.card.recipe.defenses):
        model = registry().create("defenses", spec.kind, spec.params).wrap(model)
    return model


def check_against_card(model, dataset) -> None:
    card = model.card
    assert (card.test.samples, card.test.fingerprint) == (len(dataset), dataset.fingerprint())
    behind = model if model.input_shape == dataset.shape else defended(model)
    assert (behind.input_shape, card.num_classes) == (dataset.shape, len(dataset.class_names))
    assert card.input_shape == model.input_shape
    assert measured(behind, dataset) == card.accuracy.correct
    assert card.accuracy.value == card.accuracy.correct / card.accuracy.samples


def test_listing_loads_no_torch():
    code = "import sys, charpy_models.plugin as p; p.charpy_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_recipe_has_a_class():
    assert set(CLASSES) == set(LEAST)
    assert set(RECIPES) == set(CLASSES) | set(GENERATORS)
    assert all(zoo.kind == kind for kind, zoo in {**CLASSES, **GENERATORS}.items())
    assert all((RECIPES[kind].gan is None) == (kind in CLASSES) for kind in RECIPES)


def test_what_has_weights_is_listed_and_nothing_else(copied, monkeypatch):
    files = {Path(file.name) for file in weights_folder().iterdir()}
    kinds = {file.stem for file in files if file.suffix == ".safetensors"}
    made = {kind for kind in plugin.charpy_generators() if kind in GENERATORS}
    assert {zoo.kind for zoo in ZOO} | made == kinds == {file.stem for file in files if file.suffix == ".json"}
    assert kinds >= {"digits-cnn", "mnist-lenet", "cifar10-cnn", "mnist-robust", "cifar10-resnet8-robust"}

    monkeypatch.setattr("charpy_models.plugin.weights_folder", lambda: copied)
    listed = plugin.charpy_models()
    assert listed.keys() & CLASSES.keys() == {"digits-cnn"}
    assert listed["digits-cnn"] == "charpy_models.zoo:DigitsCNN"
    assert plugin.charpy_generators().keys() == {"trained"}


@pytest.mark.parametrize("zoo", CLASSES.values())
def test_a_class_knows_its_network(zoo):
    network = zoo.architecture().eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f" {count:,} parameters" in zoo.summary()
    assert network(torch.rand(2, *zoo.input_shape)).shape == (2, zoo.num_classes)


@pytest.mark.parametrize("zoo", ZOO)
def test_the_shipped_weights_are_those_of_todays_recipe(zoo):
    card, _ = read_weights(zoo.kind, weights_folder())
    assert card.kind == zoo.kind
    assert card.recipe == RECIPES[zoo.kind]
    assert (card.input_shape, card.num_classes) == (zoo.input_shape, zoo.num_classes)
    assert card.parameters == sum(parameter.numel() for parameter in zoo.architecture().parameters())


def test_digits_accuracy_is_the_cards():
    check_against_card(DigitsCNN(), Digits(Digits.Params(split="test")))


def test_digits_model_has_seen_the_train_split_only():
    train, test = Digits(Digits.Params(split="train")), Digits(Digits.Params(split="test"))
    assert DigitsCNN().card.train.fingerprint == train.fingerprint()
    ids = [set(split.read(range(len(split))).ids) for split in (train, test)]
    assert not ids[0] & ids[1]


def opened(zoo: type[ZooModel], data_dir: Path):
    """The test split of its data."""
    data = DATA[RECIPES[zoo.kind].data]
    return data(data.Params(split="test", data_dir=str(data_dir), download=False))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("zoo", [zoo for zoo in ZOO if RECIPES[zoo.kind].data == "mnist"])
def test_accuracy_is_the_cards(zoo, data_dir):
    check_against_card(zoo(), opened(zoo, data_dir))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("zoo", [zoo for zoo in ZOO if RECIPES[zoo.kind].data == "cifar10"])
def test_accuracy_is_about_the_cards(zoo, data_dir):
    """On 1,500 of 10,000 images, which take seconds instead of half a minute a network; four standard deviations."""
    model, dataset, drawn = zoo(), opened(zoo, data_dir), 1500
    card, samples = model.card, dataset.read(range(drawn))
    assert (card.test.samples, card.test.fingerprint) == (len(dataset), dataset.fingerprint())
    with torch.no_grad():
        pieces = torch.split(samples.images, 250)
        right = int((torch.cat([model.predict(piece).argmax(1) for piece in pieces]) == samples.labels).sum())
    value = card.accuracy.correct / card.accuracy.samples
    spread = (value * (1 - value) / drawn * (1 - drawn / len(dataset))) ** 0.5
    assert abs(right / drawn - value) < 4 * spread


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("zoo", "data", "count"), [(MnistRobust, Mnist, 200), (Cifar10ResNet8Robust, Cifar10, 100)])
def test_robust_accuracy_is_about_the_cards(zoo, data, count, data_dir):
    """On some images of the 1,000, by a PGD written here: twice the steps, each a tenth of the radius."""
    model, card = zoo(), zoo().card.robust_accuracy
    samples = data(data.Params(split="test", data_dir=str(data_dir), download=False)).read(range(count))
    generator = torch.Generator().manual_seed(0)
    shift = (2 * torch.rand(samples.images.shape, generator=generator) - 1) * card.radius
    for _ in range(2 * card.steps):
        attacked = (samples.images + shift).clamp(0, 1).requires_grad_()
        loss = torch.nn.functional.cross_entropy(model.predict(attacked), samples.labels, reduction="sum")
        slope = torch.autograd.grad(loss, attacked)[0].sign()
        shift = (attacked.detach() - samples.images + card.radius / 10 * slope).clamp(-card.radius, card.radius)
    with torch.no_grad():
        right = model.predict((samples.images + shift).clamp(0, 1)).argmax(1) == samples.labels
    spread = 4 * (card.value * (1 - card.value) / count) ** 0.5
    assert abs(float(right.float().mean()) - card.value) < spread + 0.02


@pytest.mark.parametrize("zoo", ZOO)
def test_accuracies_worth_shipping(zoo):
    assert zoo().card.accuracy.value >= LEAST[zoo.kind]


@pytest.mark.parametrize(("zoo", "radius", "least"), [(MnistRobust, 0.3, 0.9), (Cifar10ResNet8Robust, 8 / 255, 0.3)])
def test_robust_accuracies_worth_shipping(zoo, radius, least):
    card = zoo().card
    assert card.defenses[0].params["radius"] == card.robust_accuracy.radius == radius
    assert card.robust_accuracy.value == card.robust_accuracy.correct / card.robust_accuracy.samples >= least


@pytest.mark.parametrize("zoo", ZOO)
def test_a_card_names_the_defences_and_a_robust_accuracy_where_one_trains_for_it(zoo):
    card = zoo().card
    assert [defense.kind for defense in card.defenses] == [spec.kind for spec in card.recipe.defenses]
    assert (card.robust_accuracy is not None) == (robust_at(defenses_of(card.recipe)) is not None)
    assert (card.robust_accuracy is not None) or zoo not in ROBUST


def test_the_weights_are_small():
    assert sum(len(file.read_bytes()) for file in weights_folder().iterdir()) < 30_000_000


@pytest.mark.parametrize("zoo", ZOO)
def test_contract_of_a_zoo_model(zoo):
    model = zoo(zoo.Params(device="cpu"))
    images = torch.rand(3, *zoo.input_shape, requires_grad=True)
    scores = model.predict(images)
    scores.sum().backward()
    assert scores.shape == (3, zoo.num_classes)
    assert bool(images.grad.abs().flatten(1).amax(1).gt(0).all())
    assert (model.access, model.output, model.device.type) == (Access.GRADIENTS, Output.LOGITS, "cpu")
    assert not model.module.training


@pytest.mark.parametrize("zoo", ZOO)
def test_identity_is_the_weight_file(zoo):
    content = (weights_folder() / f"{zoo.kind}.safetensors").read_bytes()
    fingerprint = zoo().fingerprint()
    assert fingerprint["weights"] == hashlib.sha256(content).hexdigest()
    assert fingerprint == zoo().fingerprint()


def test_a_model_leaves_the_callers_generator_alone():
    state = torch.get_rng_state()
    DigitsCNN()
    assert torch.equal(torch.get_rng_state(), state)


def test_references_and_parameters():
    assert DigitsCNN.accepts("digits-cnn") == {}
    assert DigitsCNN.accepts("mnist-lenet") is None
    assert DigitsCNN.accepts("weights.safetensors@digits-cnn") is None
    assert DigitsCNN.wrap(torch.nn.Identity()) is None
    with pytest.raises(ValidationError):
        DigitsCNN.Params(weights="other.safetensors")


@pytest.fixture
def copied(tmp_path) -> Path:
    """A folder with the digits weights and their card."""
    for name in ("digits-cnn.safetensors", "digits-cnn.json"):
        (tmp_path / name).write_bytes((weights_folder() / name).read_bytes())
    return tmp_path


def test_a_changed_weight_file_is_refused_by_name(copied, monkeypatch):
    monkeypatch.setattr("charpy_models.zoo.weights_folder", lambda: copied)
    DigitsCNN()  # as it was, it loads from there
    file = copied / "digits-cnn.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"digits-cnn\.safetensors.*changed"):
        DigitsCNN()


@pytest.mark.parametrize("name", ["digits-cnn.safetensors", "digits-cnn.json"])
def test_a_missing_file_is_refused_by_name(copied, name):
    (copied / name).unlink()
    with pytest.raises(ModelError, match="digits-cnn"):
        read_weights("digits-cnn", copied)


def test_a_damaged_card_is_refused(copied):
    card = json.loads((copied / "digits-cnn.json").read_text())
    (copied / "digits-cnn.json").write_text(json.dumps(card)[:-5])
    with pytest.raises(ModelError, match="digits-cnn"):
        read_weights("digits-cnn", copied)
