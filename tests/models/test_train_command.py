"""`charpy train`: specs good and bad, data of one's own, what is written, and opening it again."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from charpy.cli.app import run_program
from charpy_models import spec as specs
from charpy_models import train as training
from charpy_models.card import Card
from charpy_models.data import hold_out, read_split
from charpy_models.recipe import Precision
from charpy_models.recipes import recipe_for
from charpy_models.train import _precision_on
from charpy_models.trained import TrainedModel
from charpy_plugins.datasets.digits import Digits

QUICK = "recipe: {like: digits-cnn, epochs: 2, learning_rate: 0.01}\nthreads: 1\n"


def card_of(folder: Path, name: str = "it") -> Card:
    return Card.model_validate_json((folder / f"{name}.json").read_text())


def test_weights_card_and_figures(charpy, tmp_path):
    done = charpy(QUICK)
    assert done.code == 0, done.err
    folder = tmp_path / "charpy-it"
    assert {file.name for file in folder.iterdir()} == {"it.safetensors", "it.json"}
    card = card_of(folder)
    assert card.recipe == recipe_for("digits-cnn").model_copy(update={"epochs": 2, "learning_rate": 0.01})
    assert (card.seed, card.threads, card.device, card.precision) == (0, 1, "cpu", "float32")
    assert card.command == "charpy train it.yaml"
    assert card.validation.samples == 120  # a tenth of 1,201
    assert f"{card.accuracy.value:.2%} of 596 test images" in done.out
    assert f"epoch {card.validation.epoch}, best of 120" in done.out
    assert str(folder / "it.safetensors") in done.out
    assert re.findall(r"epoch (\d)/2, mean loss [\d.]+, [\d.]+% of the held-out", done.err) == ["1", "2"]
    assert str(tmp_path) not in (folder / "it.json").read_text()

    model, test = TrainedModel(TrainedModel.Params(weights=str(folder / "it.safetensors"))), Digits()
    samples = test.read(range(len(test)))
    assert int((model.predict(samples.images).argmax(1) == samples.labels).sum()) == card.accuracy.correct
    data = read_split("digits", "train", None)
    _, held_out = hold_out(data, 0.1, 0)
    right = model.predict(held_out.images / 255).argmax(1) == held_out.labels
    assert int(right.sum()) == card.validation.correct


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("seed: 4", lambda card: card.seed == 4),
        ("threads: 2", lambda card: card.threads == 2),
        ("validation: 0.5", lambda card: card.validation.samples == 600),
        ("validation: 0", lambda card: card.validation is None),
        ("precision: bfloat16", lambda card: card.precision is Precision.BFLOAT16),
    ],
)
def test_every_field_has_an_effect(charpy, tmp_path, line, read):
    name = line.partition(":")[0]
    assert charpy(QUICK, "--out", "plain").code == 0
    spec = re.sub(f"^{name}:.*\n", "", QUICK, flags=re.MULTILINE) + f"{line}\nname: other\n"
    assert charpy(spec, "--out", "changed").code == 0
    card = card_of(tmp_path / "changed", "other")
    assert read(card)
    if name != "threads":  # which may, but need not, change these small sums
        assert card.sha256 != card_of(tmp_path / "plain").sha256


def test_a_kind_of_the_zoo_alone_is_its_recipe(charpy, monkeypatch):
    monkeypatch.setattr(training, "train", lambda spec, command: pytest.fail("not carried out"))
    path = Path("it.yaml")
    path.write_text("recipe: mnist-nin")
    spec = specs.load_train_spec(path)
    assert spec.recipe == recipe_for("mnist-nin")
    assert (spec.name, spec.out) == ("it", str(Path("charpy-it").resolve()))


def test_paths_are_relative_to_the_spec(tmp_path, monkeypatch):
    folder = tmp_path / "far"
    folder.mkdir()
    path = folder / "my net.yaml"
    path.write_text("recipe: digits-cnn\nout: results\ndata_dir: sets\ndata: {train: a.npz, test: ../b}")
    spec = specs.load_train_spec(path)
    assert spec.name == "my-net"
    assert (spec.out, spec.data_dir) == (str(folder / "results"), str(folder / "sets"))
    assert (spec.data.train, spec.data.test) == (str(folder / "a.npz"), str(tmp_path / "b"))


def test_data_of_ones_own(charpy, tmp_path):
    for split, rows in (("train", range(300)), ("test", range(300, 400))):
        samples = Digits(Digits.Params(split="all")).read(rows)
        np.savez(tmp_path / f"{split}.npz", images=(samples.images * 255).byte().numpy(), labels=samples.labels.numpy())
    done = charpy(QUICK + "data: {train: train.npz, test: test.npz}\n")
    assert done.code == 0, done.err
    card = card_of(tmp_path / "charpy-it")
    assert (card.train.samples, card.test.samples, card.validation.samples) == (300, 100, 30)
    assert card.train.params == {"name": "train"}


@pytest.mark.parametrize(
    ("shape", "classes", "words"),
    [
        ((1, 9, 8), 10, ["another shape", "(1, 9, 8)", "(1, 8, 8)"]),
        ((1, 8, 8), 12, ["other classes", "12 classes", "10 classes"]),
    ],
)
def test_test_data_that_does_not_fit_is_refused_before_the_training(charpy, tmp_path, shape, classes, words):
    own_data(tmp_path / "train.npz", (1, 8, 8), 10)
    own_data(tmp_path / "test.npz", shape, classes)
    done = charpy(QUICK + "data: {train: train.npz, test: test.npz}\n")
    assert (done.code, "epoch 1" in done.err) == (2, False), done.err
    for word in words:
        assert word in done.err
    assert not (tmp_path / "charpy-it").exists()


def test_the_card_counts_the_classes_that_were_trained_on(charpy, tmp_path):
    own_data(tmp_path / "train.npz", (1, 8, 8), 10)
    own_data(tmp_path / "test.npz", (1, 8, 8), 4)
    done = charpy(QUICK + "data: {train: train.npz, test: test.npz}\n")
    assert done.code == 0, done.err
    assert card_of(tmp_path / "charpy-it").num_classes == 10


def own_data(path, shape, classes):
    labels = np.arange(40) % classes
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8), labels=labels)


def test_the_test_split_is_read_when_all_is_trained(charpy, monkeypatch):
    order = []
    read, fit = training.read_split, training.fit
    monkeypatch.setattr(training, "read_split", lambda *args: order.append(args[1]) or read(*args))
    monkeypatch.setattr(training, "fit", lambda *args, **rest: order.append("fit") or fit(*args, **rest))
    assert charpy(QUICK).code == 0
    assert order == ["train", "fit", "test"]


def test_held_out_images_are_drawn_by_the_seed_and_not_trained_on():
    data = read_split("digits", "train", None)
    for seed in (0, 1):
        kept, held_out = hold_out(data, 0.25, seed)
        assert (len(kept.labels), len(held_out.labels)) == (901, 300)
        rows = sorted(map(bytes, torch.cat([kept.images, held_out.images]).flatten(1).numpy()))
        assert rows == sorted(map(bytes, data.images.flatten(1).numpy()))
    again = hold_out(data, 0.25, 1)[1]
    assert torch.equal(again.images, held_out.images)
    assert not torch.equal(hold_out(data, 0.25, 0)[1].images, held_out.images)


BAD = {
    "no recipe": ("seed: 1", ["it.yaml", "recipe", "Field required"]),
    "unknown recipe": ("recipe: mnist-lenett", ["mnist-lenett", "did you mean mnist-lenet"]),
    "unknown field": (QUICK + "sed: 3", ["it.yaml", "sed", "did you mean 'seed'", "charpy train --schema"]),
    "unknown field of a recipe": ("recipe: {like: digits-cnn, epoch: 3}", ["recipe.epoch", "did you mean 'epochs'"]),
    "out of range": (QUICK + "validation: 1.5", ["validation", "less than 1", "1.5"]),
    "text for a number": ("recipe: {like: digits-cnn, epochs: many}", ["recipe.epochs", "many"]),
    "schedule": ("recipe: {like: digits-cnn, schedule: cosin}", ["recipe.schedule", "'cosine'", "cosin"]),
    "precision": (QUICK + "precision: half", ["precision", "'bfloat16'", "half"]),
    "like a number": ("recipe: {like: 3}", ["recipe.like", "3", "text"]),
    "name": (QUICK + "name: ../it", ["name", "../it"]),
    "not yaml": ("recipe: [", ["it.yaml, line 1"]),
    "architecture": ("recipe: {like: digits-cnn, architecture: 'charpy_models.nets:A'}", ["charpy_models.nets"]),
    "keyword": ("recipe: {like: digits-cnn, architecture_params: {width: 3}}", ["width", "widths", "expected"]),
    "image size": (
        "recipe: {like: mnist-lenet, data: digits}",
        ["does not take the images", "(1, 8, 8)", "image_size"],
    ),
    "classes": (
        "recipe: {like: digits-cnn, architecture_params: {num_classes: 3}}",
        ["score for each class", "(2, 3)", "num_classes"],
    ),
    "nothing held out": (QUICK + "validation: 0.0001", ["validation", "1201 images"]),
    "unknown data": ("recipe: {like: digits-cnn, data: digit}", ["digit", "did you mean digits"]),
    "no data": (QUICK + "data: {train: a.npz, test: b.npz}", ["a.npz"]),
    "device": (QUICK + "device: cuda:99", ["cuda:99", "CUDA devices"]),
    "unknown device": (QUICK + "device: gpu", ["gpu", "auto, cpu, cuda"]),
}


@pytest.mark.parametrize(("spec", "words"), BAD.values(), ids=BAD)
def test_a_bad_spec_is_refused_by_name(charpy, tmp_path, spec, words):
    done = charpy(spec)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err
    assert not (tmp_path / "charpy-it").exists()


def test_no_spec_is_a_usage_error(capsys):
    assert run_program(["train"]) == 2
    assert "charpy train SPEC.yaml" in capsys.readouterr().err


def test_divergence_ends_with_an_error_and_no_weights(charpy, tmp_path):
    done = charpy("recipe: {like: digits-cnn, epochs: 2, learning_rate: 1e30}\nthreads: 1\n")
    assert done.code == 2
    for word in ("diverged", "epoch 1", "mean loss", "expected", "lower the recipe's learning_rate"):
        assert word in done.err
    assert not list((tmp_path / "charpy-it").iterdir())


def test_a_changed_spec_does_not_go_on_with_the_old_checkpoint(charpy, tmp_path, monkeypatch):
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_card", cut)
        assert charpy(QUICK).code == 130
    assert (tmp_path / "charpy-it" / "it.checkpoint").is_file()
    done = charpy(QUICK.replace("0.01", "0.02"))
    assert done.code == 2
    for word in ("another training", "recipe.learning_rate: 0.01", "recipe.learning_rate: 0.02", "--out"):
        assert word in done.err
    assert charpy(QUICK).code == 0


def test_the_schema_takes_the_example(capsys):
    assert run_program(["train", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    recipe = recipe_for("cifar10-nin").model_dump(mode="json")
    document = {"name": "it", "out": "there", "recipe": recipe, "validation": 0.2, "precision": "float16"}
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "validation": 1}, schema)


def test_precision_follows_the_device(monkeypatch):
    assert _precision_on(torch.device("cpu")) is Precision.FLOAT32
    for supported, expected in ((True, Precision.BFLOAT16), (False, Precision.FLOAT16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert _precision_on(torch.device("cuda")) is expected


def test_a_folder_that_cannot_be_made_is_refused(charpy, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = charpy(QUICK, "--out", "taken")
    assert done.code == 2, done.err
    assert "cannot be made" in done.err


def test_a_full_disk_is_no_crash_and_the_training_goes_on_later(charpy, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("charpy.wholefile.os.fsync", full)
        done = charpy(QUICK)
    assert done.code == 2, done.err
    assert "No space left on device" in done.err
    assert "it.checkpoint" in done.err
    assert charpy(QUICK).code == 0
    assert {file.name for file in (tmp_path / "charpy-it").iterdir()} == {"it.safetensors", "it.json"}
