"""Weights with their card as a model; a card runs no code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from charpy.errors import CharpyError, ModelError
from charpy.plugins import registry
from charpy.specs import ModelSpec
from charpy.subjects import subject_of
from charpy_models.trained import TrainedModel


@pytest.fixture
def trained(charpy, tmp_path) -> Path:
    """Weights with their card."""
    assert charpy("recipe: {like: digits-cnn, epochs: 1}\nthreads: 1\nname: net\nout: here\n").code == 0
    return tmp_path / "here" / "net.safetensors"


def test_trained_weights_are_a_model(trained):
    opened = subject_of(ModelSpec(reference=str(trained)), registry())
    model = opened.open()
    assert isinstance(model, TrainedModel)
    assert (model.input_shape, model.num_classes) == ((1, 8, 8), 10)
    assert model.fingerprint()["weights"] == model.card.sha256
    state = torch.get_rng_state()
    opened.open()
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_without_a_card_are_nothing_to_it(trained):
    assert TrainedModel.accepts(str(trained)) == {"weights": str(trained)}
    assert TrainedModel.accepts(str(trained.with_suffix(".pt"))) is None
    assert TrainedModel.accepts(f"{trained}@digits-cnn") is None
    trained.with_suffix(".json").unlink()
    assert TrainedModel.accepts(str(trained)) is None
    with pytest.raises(ModelError, match="no card"):
        TrainedModel(TrainedModel.Params(weights=str(trained)))


def change(trained: Path, **fields: object) -> TrainedModel:
    """The model, opened with a card that says something else."""
    path = trained.with_suffix(".json")
    card = json.loads(path.read_text())
    for name, value in fields.items():
        (card["recipe"] if name.startswith("architecture") else card)[name] = value
    path.write_text(json.dumps(card))
    return TrainedModel(TrainedModel.Params(weights=str(trained)))


@pytest.mark.parametrize(
    "architecture",
    [
        "os:mkdir",
        "charpy_models.architecturesque:Net",
        "charpy_models.architectures.lenet:torch.hub.load",
        "charpy_models.architectures.lenet:nn.Linear",
        "charpy_models.architectures.start:he_normal",
    ],
)
def test_a_card_runs_no_code(trained, architecture):
    with pytest.raises(ModelError, match="not charpy's") as caught:
        change(trained, architecture=architecture, architecture_params={"path": "evil"})
    assert architecture in str(caught.value)
    assert not Path("evil").exists()


def test_a_card_of_other_weights_is_refused(trained):
    with pytest.raises(ModelError, match="another weight file"):
        change(trained, sha256="0" * 64)


def test_a_card_of_another_network_is_refused(trained):
    with pytest.raises(ModelError, match="do not fit"):
        change(trained, architecture_params={"hidden": 3})


@pytest.mark.parametrize("content", ["", "{", "[]", '"card"', "{}"])
def test_a_damaged_card_is_refused(trained, content):
    trained.with_suffix(".json").write_text(content)
    with pytest.raises(CharpyError, match=r"net\.json"):
        TrainedModel(TrainedModel.Params(weights=str(trained)))
