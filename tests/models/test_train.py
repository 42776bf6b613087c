"""`python -m charpy_models.train`, for one epoch on the embedded digits."""

from __future__ import annotations

import hashlib
import json

import pytest
from cyclopts import ValidationError

from charpy.specs import ComponentSpec
from charpy_models.accuracy import count_robust
from charpy_models.architectures.digits_cnn import DigitsCNN
from charpy_models.recipes import recipe_for
from charpy_models.train import app, main
from charpy_models.training import Trained
from charpy_models.zoo import read_weights
from charpy_plugins.datasets.digits import Digits


def test_weights_and_card_of_one_epoch(tmp_path, capsys):
    assert main("digits-cnn", out=tmp_path / "new", epochs=1, seed=5, threads=1) == 0
    card, state = read_weights("digits-cnn", tmp_path / "new")
    content = (tmp_path / "new" / "digits-cnn.safetensors").read_bytes()
    assert (card.sha256, card.bytes) == (hashlib.sha256(content).hexdigest(), len(content))

    train, test = Digits(Digits.Params(split="train")), Digits(Digits.Params(split="test"))
    assert (card.train.samples, card.train.fingerprint) == (len(train), train.fingerprint())
    assert (card.test.samples, card.test.fingerprint) == (len(test), test.fingerprint())

    module = DigitsCNN().eval()
    module.load_state_dict(state)
    samples = test.read(range(len(test)))
    correct = int((module(samples.images).argmax(1) == samples.labels).sum())
    assert card.accuracy.correct == correct > len(test) // 2
    assert card.accuracy.value == correct / len(test)
    assert (card.seed, card.recipe.epochs, card.threads) == (5, 1, 1)
    assert card.command == "python -m charpy_models.train digits-cnn --seed 5 --epochs 1 --threads 1"

    printed = capsys.readouterr()
    assert f"{card.accuracy.value:.2%}" in printed.out
    assert "epoch 1/1" in printed.err


def test_the_command_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("first", 0), ("again", 0), ("other", 1)):
        main("digits-cnn", out=tmp_path / folder, epochs=1, seed=seed, threads=1)
    first, again, other = (
        [(tmp_path / folder / f"digits-cnn.{suffix}").read_bytes() for suffix in ("safetensors", "json")]
        for folder in ("first", "again", "other")
    )
    assert first == again
    assert first[0] != other[0]


def test_a_robust_accuracy_is_measured_after_adversarial_training_only(tmp_path, monkeypatch, capsys):
    main("digits-cnn", out=tmp_path / "plain", epochs=1, threads=1)
    assert read_weights("digits-cnn", tmp_path / "plain")[0].robust_accuracy is None
    assert "PGD" not in capsys.readouterr().out

    training = ComponentSpec(kind="adversarial_training", params={"method": "fast", "radius": 0.05, "step_size": 0.06})
    robust_recipe = recipe_for("digits-cnn").model_copy(update={"defenses": (training,)})
    monkeypatch.setattr("charpy_models.train.recipe_for", lambda _: robust_recipe)
    monkeypatch.setattr("charpy_models.train.PGD_SAMPLES", 300)
    main("digits-cnn", out=tmp_path, epochs=3, seed=2, threads=1)
    card, state = read_weights("digits-cnn", tmp_path)
    assert card.recipe.defenses == (training,)
    (named,) = card.defenses
    assert (named.kind, named.params) == ("adversarial_training", {**named.params, **training.params, "steps": 1})
    assert named.package.startswith("charpy ")
    found = card.robust_accuracy
    assert (found.attack, found.norm, found.radius, found.steps, found.samples) == ("pgd", "linf", 0.05, 20, 300)
    assert found.value == found.correct / 300 < card.accuracy.value
    told = capsys.readouterr().out
    assert f"{found.value:.2%} of the first 300 under PGD-20, Linf 0.05" in told
    assert "trained with adversarial_training" in told

    module = DigitsCNN().eval()
    module.load_state_dict(state)
    samples = Digits(Digits.Params(split="test")).read(range(300))
    assert found.correct == count_robust(module, samples.images, samples.labels, radius=0.05, steps=20, seed=2)


@pytest.mark.data
def test_no_folder_of_the_machine_is_in_the_card(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr("charpy_models.train.fit", lambda recipe, *_, **__: Trained(recipe.build().eval(), 1, None))
    assert main("mnist-lenet", data_dir=str(data_dir), out=tmp_path, epochs=1, threads=1) == 0
    text = (tmp_path / "mnist-lenet.json").read_text()
    assert json.loads(text)["test"] == {**json.loads(text)["test"], "samples": 10_000, "params": {"split": "test"}}
    assert str(data_dir) not in text
    assert str(tmp_path) not in text


def test_an_unknown_kind_is_a_usage_error(tmp_path, capsys):
    assert main("digit-cnn", out=tmp_path) == 2
    assert "did you mean digits-cnn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--epochs=0", "--seed=-1", "--threads=0"])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(ValidationError):
        app(["digits-cnn", option], exit_on_error=False, print_error=False)
