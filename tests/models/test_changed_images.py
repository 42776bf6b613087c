"""Networks trained on what a defence shows them: codes, noise, few pixels; and how their accuracy is measured."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from charpy.analysis.summary import RunSummary
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import ComponentSpec, RunSpec, parse
from charpy_models.architectures.digits_cnn import DigitsCNN
from charpy_models.card import Card
from charpy_models.data import hold_out, read_split
from charpy_models.defenses import defenses_of, measured, shape_behind
from charpy_models.fit import fit
from charpy_models.recipe import Recipe
from charpy_models.recipes import recipe_for
from charpy_models.trained import TrainedModel
from charpy_models.training import Images
from charpy_plugins.datasets.digits import Digits

THERMOMETER = {"kind": "thermometer", "params": {"levels": 16}}
DOUBLED = {"kind": "randomized_ablation", "params": {"keep": 20, "encoding": "doubled", "draws": 5}}
NOISE = {"kind": "randomized_smoothing", "params": {"sigma": 0.5}}


def recipe(*defenses: dict, epochs: int = 2, channels: int = 1) -> Recipe:
    params = {"in_channels": channels, "mean": [0.3], "std": [0.375]}
    changes = {
        "epochs": epochs,
        "architecture_params": params,
        "defenses": tuple(map(ComponentSpec.model_validate, defenses)),
    }
    return recipe_for("digits-cnn").model_copy(update=changes)


@pytest.fixture
def shown(monkeypatch) -> list[torch.Tensor]:
    """What the network is shown in train mode."""
    seen, forward = [], DigitsCNN.forward

    def listening(self: DigitsCNN, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen.append(images.detach().clone())
        return forward(self, images)

    monkeypatch.setattr(DigitsCNN, "forward", listening)
    return seen


@pytest.fixture
def few() -> Images:
    """All the same image, but for its label: what differs in training was drawn."""
    image = Digits().read([0]).images
    return Images(image.expand(8, 1, 8, 8).clone(), torch.arange(8))


def plainly(*defenses: dict, **more: int) -> Recipe:
    return recipe(*defenses, **more).model_copy(
        update={"augmentation": recipe_for("cifar10-cnn").augmentation.model_copy(update={"flip": False, "shift": 0})}
    )


def test_a_network_learns_from_codes(few, shown):
    fit(plainly(THERMOMETER, channels=16), *few, seed=1)
    limits = torch.arange(1, 17) / 16
    expected = (few.images[0, 0] > limits[:, None, None]).float()
    assert len(shown) == 2
    assert all(torch.equal(images, expected.expand(8, 16, 8, 8)) for images in shown)


def test_noise_is_another_one_for_every_image_and_step(few, shown):
    fit(plainly({"kind": NOISE["kind"], "params": {"sigma": 0.5, "clip": False}}, epochs=40), *few, seed=1)
    noise = torch.cat(shown) - few.images[0]
    assert len(noise) == 320
    assert all(not torch.equal(*pair) for pair in itertools.combinations(noise[:24], 2))
    assert abs(float(noise.mean())) < 5 * 0.5 / noise.numel() ** 0.5
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)


def test_noise_is_clipped_as_the_votes_see_it(few, shown):
    fit(plainly(NOISE), *few, seed=1)
    assert all(float(images.min()) == 0 and float(images.max()) == 1 for images in shown)


def test_ablation_keeps_other_places_of_every_image_and_step(few, shown):
    fit(plainly(DOUBLED, channels=2), *few, seed=1)
    images = torch.cat(shown)
    kept = images.sum(1) > 0.5  # x + (1 - x) = 1 where kept, 0 where not
    assert images.shape[1:] == (2, 8, 8)
    assert kept.flatten(1).sum(1).tolist() == [20] * 16
    assert all(not torch.equal(*pair) for pair in itertools.combinations(kept, 2))
    original = few.images[0, 0]
    for image, mask in zip(images, kept, strict=True):
        assert torch.equal(image[0][mask], original[mask])
        assert torch.equal(image[1][mask], (1 - original)[mask])


def test_the_seed_of_the_training_draws(few, shown):
    for seed in (1, 1, 2):
        fit(plainly(NOISE, epochs=1), *few, seed=seed)
    first, again, other = shown
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("defenses", "shape"),
    [
        ([], (1, 8, 8)),
        ([NOISE], (1, 8, 8)),
        ([THERMOMETER], (16, 8, 8)),
        ([DOUBLED], (2, 8, 8)),
        ([NOISE, THERMOMETER], (16, 8, 8)),
        ([THERMOMETER, DOUBLED], (32, 8, 8)),
        ([{"kind": "adversarial_training", "params": {"radius": 0.1}}], (1, 8, 8)),
    ],
)
def test_shapes(defenses, shape):
    assert shape_behind(defenses_of(recipe(*defenses)), (1, 8, 8)) == shape


def test_the_first_defence_of_a_recipe_is_the_outermost(few):
    network = recipe(NOISE, THERMOMETER, channels=16).build().eval()
    found = measured(network, defenses_of(recipe(NOISE, THERMOMETER, channels=16)), few.images)
    inner = (
        registry()
        .create("defenses", "thermometer", {"levels": 16})
        .wrap(registry().load("models", "torch").from_module(network))
    )
    expected = registry().create("defenses", NOISE["kind"], NOISE["params"]).wrap(inner)
    with torch.no_grad():
        assert torch.equal(found(few.images), expected.predict(few.images))
    assert not found.training


def test_a_defence_that_keeps_the_shape_is_not_measured(few):
    network = nn.Identity()
    assert measured(network, defenses_of(recipe(NOISE)), few.images) is network


def of(card: str, folder: Path) -> Card:
    return Card.model_validate_json((folder / f"{card}.json").read_text())


TRAINED = """
recipe:
  like: digits-cnn
  epochs: 6
  architecture_params: {{in_channels: {channels}, mean: [0.3], std: [0.375]}}
  defenses: [{{kind: {kind}, params: {params}}}]
threads: 1
name: net
out: here
"""


@pytest.mark.slow
@pytest.mark.parametrize(("defense", "channels", "least"), [(THERMOMETER, 16, 0.9), (DOUBLED, 2, 0.5)])
def test_training_to_weights_that_a_run_can_defend(charpy, tmp_path, defense, channels, least):
    """Card, held-out images and a run agree: all of them behind the defence."""
    done = charpy(TRAINED.format(channels=channels, **defense))
    assert done.code == 0, done.err
    card = of("net", tmp_path / "here")
    assert card.input_shape == (channels, 8, 8)
    assert card.accuracy.value >= least
    weights = tmp_path / "here" / "net.safetensors"
    model = TrainedModel(TrainedModel.Params(weights=str(weights)))
    assert model.input_shape == (channels, 8, 8)

    behind = registry().create("defenses", defense["kind"], defense["params"]).wrap(model)
    _, held_out = hold_out(read_split("digits", "train", None), 0.1, 0)
    test = Digits().read(range(len(Digits())))
    for images, labels, figure in (
        (held_out.images / 255, held_out.labels, card.validation.correct),
        (test.images, test.labels, card.accuracy.correct),
    ):
        assert int((behind.predict(images).argmax(1) == labels).sum()) == figure

    spec = {
        "data": {"kind": "digits", "samples": 20},
        "models": [{"reference": str(weights), "defenses": [defense], "attackers": ["adaptive", "black-box"]}],
        "threats": [{"norm": "linf", "levels": [50], "battery": "fast"}],
    }
    evaluate(parse(RunSpec, spec), tmp_path / "run.charpy")
    with RunFile.open(tmp_path / "run.charpy") as run:
        adaptive, black_box = RunSummary.of(run).assessments
    assert adaptive.clean.count == black_box.clean.count >= 20 * least - 3
    assert adaptive.threats[0].broken > 0


BAD = {
    "one channel": (TRAINED.format(channels=1, **THERMOMETER), ["does not take the images", "(16, 8, 8)", "(1, 8, 8)"]),
    "too many pixels": (
        TRAINED.format(channels=1, kind="randomized_ablation", params="{keep: 65}"),
        ["more pixels are to be kept", "65", "64"],
    ),
    "adversarial training": (
        TRAINED.format(channels=16, **THERMOMETER).replace(
            "defenses: [", "defenses: [{kind: adversarial_training, params: {radius: 0.1}}, "
        ),
        ["adversarial_training, thermometer", "(16, 8, 8)", "one shape"],
    ),
}


@pytest.mark.parametrize(("spec", "words"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_before_anything_is_written(charpy, tmp_path, spec, words):
    done = charpy(spec)
    assert done.code != 0
    assert all(word in done.err for word in words), done.err
    assert not (tmp_path / "here").exists()
