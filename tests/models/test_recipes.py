"""Recipes: found by name, refused where they make no sense."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from charpy.errors import CharpyError, UnknownNameError
from charpy_models.recipes import RECIPES, recipe_for
from charpy_plugins.defenses.adversarial_training import AdversarialTraining


def test_recipes_are_found_by_name():
    assert recipe_for("digits-cnn") is RECIPES["digits-cnn"]
    with pytest.raises(UnknownNameError, match="mnist-lenet"):
        recipe_for("mnist-lenett")


@pytest.mark.parametrize(
    ("architecture", "params", "words"),
    [
        ("charpy_models.architectures.lenet:LeNett", {}, "LeNet"),
        ("charpy_models.architectures.lenett:LeNet", {}, "cannot be imported"),
        ("charpy_models.architectures.lenet", {}, "package.module:object"),
        ("charpy_models.architectures.lenet:LeNet", {"width": 3}, "widths"),
        ("charpy_models.architectures.lenet:LeNet", {"std": [0]}, "positive"),
        ("collections:OrderedDict", {}, "nn.Module"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_name(architecture, params, words):
    recipe = recipe_for("digits-cnn").model_copy(update={"architecture": architecture, "architecture_params": params})
    with pytest.raises(CharpyError, match=words):
        recipe.build()


@pytest.mark.parametrize(
    "nonsense",
    [{"radius": -1}, {"radius": "8/0"}, {"steps": 0}, {"step_size": 0}, {"ramp": 1}, {"ramp": -0.1}],
    ids=str,
)
def test_adversarial_training_refuses_nonsense(nonsense):
    with pytest.raises(ValidationError, match=next(iter(nonsense))):
        AdversarialTraining.Params(**{"radius": 0.1, "steps": 1, "step_size": 0.1, **nonsense})


def test_a_radius_may_be_written_as_a_fraction():
    written = AdversarialTraining.Params(radius="8/255", steps=1, step_size="10/255")
    assert (written.radius, written.step_size) == (8 / 255, 10 / 255)
