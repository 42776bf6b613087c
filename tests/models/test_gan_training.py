"""Generators: what they learn, trainings that are interrupted, what is measured of them, and what is refused."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from pydantic import ValidationError

from charpy.cli.app import run_program
from charpy.errors import ModelError, SpecError
from charpy.generators import open_generator
from charpy.plugins import registry
from charpy.specs import ComponentSpec, ModelSpec
from charpy.subjects import subject_of
from charpy_models.accuracy import count_correct
from charpy_models.architectures.acgan import ACGAN
from charpy_models.card import Card
from charpy_models.checkpoint import Checkpoint
from charpy_models.fit import fit
from charpy_models.gan import Gan
from charpy_models.generated import _named, _spread, draw
from charpy_models.generators import TrainedGenerator
from charpy_models.recipe import Precision, Recipe
from charpy_models.recipes import recipe_for
from charpy_models.training import Images, Progress

TINY = Recipe(
    architecture="charpy_models.architectures.acgan:ACGAN",
    architecture_params={"num_classes": 2, "image_size": 8, "latent_size": 4, "widths": [6, 8], "hidden": 8},
    data="none",
    epochs=3,
    batch_size=8,
    learning_rate=2e-3,
    schedule="constant",
    warm_up=0.01,
    weight_decay=0.0,
    gan=Gan(critic_rate=4e-3, class_weight=0.5, average=0.9),
)


@pytest.fixture
def data() -> Images:
    """48 images, dark ones of class 0 (0 to 0.39) and bright ones of class 1 (0.59 to 0.98)."""
    draw = torch.Generator().manual_seed(7)
    labels = torch.arange(48) % 2
    images = torch.randint(0, 100, (48, 1, 8, 8), generator=draw) + 150 * labels[:, None, None, None]
    return Images(images.to(torch.uint8), labels)


class StopAt:
    """Raises in the middle of one epoch, as Ctrl-C would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, now: Progress) -> None:
        if (now.epoch, now.step) == (self.epoch, 2):
            raise KeyboardInterrupt


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(a, b) for (name, a), (again, b) in pairs)


def changed(**fields: object) -> Recipe:
    own = {key: fields.pop(key) for key in list(fields) if key in Gan.model_fields}
    return TINY.model_copy(update={**fields, "gan": TINY.gan.model_copy(update=own)})


def test_generator_and_auxiliary_classifier_learn_the_classes(data):
    recipe = changed(epochs=60)
    first, module = fit(changed(epochs=1), *data, seed=1).module, fit(recipe, *data, seed=1).module
    assert count_correct(module, *data) == 48
    labels = torch.arange(200) % 2

    def error(network: torch.nn.Module) -> float:
        """How far the classes' mean brightness is from that of the data."""
        made = draw(network, recipe, labels, 3).float() / 255
        real = data.images.float() / 255
        return max(abs(float(made[labels == k].mean() - real[data.labels == k].mean())) for k in (0, 1))

    assert error(module) < 0.12 < error(first)
    assert _named(module, draw(module, recipe, labels, 3), labels) > 190


@pytest.mark.parametrize("precision", Precision)
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, data, precision):
    options = {"seed": 5, "precision": precision, "held_out": data}
    undisturbed = fit(TINY, *data, **options)
    checkpoint = Checkpoint(tmp_path / "it", {"seed": 5})
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            fit(TINY, *data, **options, checkpoint=checkpoint, listen=StopAt(epoch))
    told: list[Progress] = []
    resumed = fit(TINY, *data, **options, checkpoint=checkpoint, listen=told.append)
    assert {now.epoch for now in told} == {3}
    assert told[-1].kept == count_correct(resumed.module, *data) / 48
    assert same(undisturbed.module, resumed.module)
    assert undisturbed[1:] == resumed[1:] == (3, None)


@pytest.mark.parametrize("part", ["mean", "making", "judging", "random"])
def test_what_is_saved_is_needed(tmp_path, data, part):
    undisturbed = fit(TINY, *data, seed=5).module
    states = []
    for seed in (5, 6):
        checkpoint = Checkpoint(tmp_path / "it", {})
        checkpoint.remove()
        with pytest.raises(KeyboardInterrupt):
            fit(TINY, *data, seed=seed, checkpoint=checkpoint, listen=StopAt(2))
        states.append(checkpoint.read())
    checkpoint.write({**states[0], part: states[1][part]})
    assert not same(undisturbed, fit(TINY, *data, seed=5, checkpoint=checkpoint).module)


@pytest.mark.parametrize(
    "change",
    [
        {"critic_rate": 1e-3},
        {"class_weight": 0.0},
        {"momentum": 0.9},
        {"average": 0.0},
        {"learning_rate": 1e-3},
        {"schedule": "cosine"},
        {"weight_decay": 0.5},
        {"batch_size": 16},
    ],
    ids=lambda change: ",".join(change),
)
def test_every_parameter_has_an_effect(data, change):
    assert not same(fit(TINY, *data, seed=3).module, fit(changed(**change), *data, seed=3).module)


def test_the_seed_decides_and_the_callers_generator_is_left_alone(data):
    state = torch.get_rng_state()
    first, again, other = (fit(TINY, *data, seed=seed).module for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("rate", "still", "moved"),
    [
        ("learning_rate", "generator.0.weight", "auxiliary.weight"),
        ("critic_rate", "auxiliary.weight", "generator.0.weight"),
    ],
)
def test_the_rates_are_the_recipes(data, rate, still, moved):
    """With one of them next to nothing, that side stays where it began."""
    start = fit(changed(learning_rate=1e-30, critic_rate=1e-30), *data, seed=3).module.state_dict()
    end = fit(changed(**{rate: 1e-30}), *data, seed=3).module.state_dict()
    assert torch.equal(end[still], start[still])
    assert not torch.equal(end[moved], start[moved])


def test_spread_is_the_mean_over_all_pairs_of_a_class():
    images = torch.randint(0, 256, (9, 1, 3, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 2])  # a class with one image has no pair
    means = []
    for label in (0, 1):
        mine = images[labels == label].double() / 255
        gaps = [float((a - b).square().sum().sqrt()) for a, b in itertools.combinations(mine, 2)]
        means.append(sum(gaps) / len(gaps))
    assert _spread(images, labels) == pytest.approx(sum(means) / 2, rel=1e-5)


def test_images_depend_on_their_own_row_alone():
    network = ACGAN(widths=(4, 6)).eval()
    latent, labels = torch.randn(5, 64), torch.tensor([0, 3, 9, 3, 1])
    images = network.generate(latent, labels)
    assert images.shape == (5, 1, 28, 28)
    assert bool(((images > 0) & (images < 1)).all())
    assert torch.allclose(network.generate(latent[2:3], labels[2:3]), images[2:3], atol=1e-6)
    assert not torch.allclose(images, network.generate(latent, (labels + 1) % 10))


def test_a_generator_is_not_trained_with_defences():
    with pytest.raises(ValidationError, match="generator"):
        Recipe(**{**TINY.model_dump(), "defenses": (ComponentSpec(kind="tvm"),)})


def test_a_network_that_generates_nothing_is_refused(data):
    recipe = TINY.model_copy(
        update={"architecture": "charpy_models.architectures.digits_cnn:DigitsCNN", "architecture_params": {}}
    )
    with pytest.raises(SpecError, match="generates no images"):
        fit(recipe, *data, seed=1)


SPEC = """
name: maker
recipe:
  architecture: charpy_models.architectures.acgan:ACGAN
  architecture_params: {image_size: 8, latent_size: 8, widths: [6, 8], hidden: 16}
  data: digits
  epochs: 1
  batch_size: 64
  learning_rate: 0.002
  weight_decay: 0
  gan: {critic_rate: 0.002, judge: digits-cnn}
threads: 1
"""


@pytest.fixture
def maker(charpy, tmp_path, monkeypatch):
    """A generator that `charpy train` trained for an epoch, and what was said of it."""
    monkeypatch.setattr("charpy_models.generated.EACH", 50)
    done = charpy(SPEC)
    assert done.code == 0, done.err
    return tmp_path / "charpy-maker" / "maker.safetensors", done


def test_the_card_says_what_its_images_show(maker):
    weights, done = maker
    card = Card.model_validate_json(weights.with_suffix(".json").read_text())
    made = card.generated
    assert (made.samples, made.judge, card.validation) == (500, "digits-cnn", None)
    generator = open_generator(str(weights), registry())
    assert isinstance(generator, TrainedGenerator)
    assert (generator.latent_size, generator.num_classes, generator.image_shape) == (8, 10, (1, 8, 8))
    labels = torch.arange(10).repeat_interleave(50)
    images = draw(generator.module, card.recipe, labels, card.seed)
    judge = subject_of(ModelSpec(reference="digits-cnn"), registry()).open()
    assert int((judge.predict(images / 255).argmax(1) == labels).sum()) == made.judged
    assert int((generator.classify(images / 255).argmax(1) == labels).sum()) == made.auxiliary
    assert f"digits-cnn names the class of {made.judged / 500:.2%} of 500 generated images" in done.out
    assert "test images by the auxiliary classifier" in done.out
    assert generator.fingerprint()["weights"] == card.sha256


def test_a_generator_is_not_assessed(maker, capsys):
    weights, _ = maker
    with pytest.raises(ModelError, match="generator of images") as refused:
        subject_of(ModelSpec(reference=str(weights)), registry()).open()
    assert "acgan" in str(refused.value)
    assert run_program(["assess", str(weights), "--data", "digits", "--samples", "5"]) == 2
    assert "generator of images, not a classifier" in capsys.readouterr().err


def test_a_classifier_is_no_generator(charpy, tmp_path):
    assert charpy("recipe: {like: digits-cnn, epochs: 1}\nthreads: 1\nname: net\n").code == 0
    with pytest.raises(ModelError, match="classifier, not a generator"):
        open_generator(str(tmp_path / "charpy-net" / "net.safetensors"), registry())


def test_a_card_of_a_generator_runs_no_code(maker):
    weights, _ = maker
    path = weights.with_suffix(".json")
    card = json.loads(path.read_text())
    card["recipe"]["architecture"] = "os:mkdir"
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match="not charpy's"):
        open_generator(str(weights), registry())


def test_the_shipped_generator_is_that_of_its_recipe_and_worth_shipping():
    generator = open_generator("mnist-acgan", registry())
    card = generator.card
    assert card.recipe == recipe_for("mnist-acgan")
    assert card.parameters == sum(parameter.numel() for parameter in generator.module.parameters())
    assert (generator.image_shape, generator.num_classes) == ((1, 28, 28), 10)
    made = card.generated
    assert made.judged / made.samples > 0.94
    assert abs(made.spread / made.spread_of_test - 1) < 0.1
    labels = torch.arange(10).repeat(100)
    images = draw(generator.module, card.recipe, labels, 11)  # other latent vectors than the card's
    judge = subject_of(ModelSpec(reference=made.judge), registry()).open()
    share = made.judged / made.samples
    assert abs(_named(judge.predict, images, labels) / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5


def test_the_shipped_generator_is_no_model(capsys):
    with pytest.raises(ModelError, match="generator of images, not a classifier"):
        subject_of(ModelSpec(reference="mnist-acgan"), registry())
    assert run_program(["assess", "mnist-acgan", "--data", "digits", "--samples", "5"]) == 2
    assert "generator: mnist-acgan" in capsys.readouterr().err
