"""A model behind a changed image: its answers are the model's own, its gradients those that the defence declares."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charpy.engine import QueryEngine
from charpy.errors import ModelError
from charpy.interfaces.component import param
from charpy.interfaces.defense import Defense, Detector, GradientPath
from charpy.interfaces.model import Model, Output
from charpy.oracle import Oracle
from charpy.plugins import Registry
from charpy.preflight import preflight
from charpy.specs import ModelSpec, parse
from charpy.subjects import subject_of
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Norm, ThreatModel
from charpy.transforms import (
    Draw,
    DrawParams,
    RandomTransformation,
    Transformation,
    TransformedModel,
    straight_through,
)
from charpy_plugins.wrappers.callable_model import CallableModel

SHAPE = (1, 3, 4)


class Halved(Transformation):
    """Exact: half of every value."""

    gradient = GradientPath.EXACT

    def transform(self, images):
        return images / 2


class Rounded(Transformation):
    """BPDA through the identity."""

    class Params(Transformation.Params):
        steps: int = param(4, ge=1, description="steps")

    def transform(self, images):
        return (images * self.params.steps).round() / self.params.steps


class Stepped(Rounded):
    """BPDA through the square."""

    def surrogate(self, images):
        return images.square()


class Shifted(RandomTransformation):
    """EOT: rolled by a drawn number of columns, and weakened by a drawn factor."""

    def transform(self, images, draw: Draw):
        return images.roll(draw.integer("shift", 4), 3) * draw.uniform("factor", 1)


class Noisy(RandomTransformation):
    """BPDA under randomness: rounded after drawn noise."""

    gradient = GradientPath.BPDA

    def transform(self, images, draw: Draw):
        return (images + 0.1 * draw.normal("noise", *images.shape[1:])).round()


class Doubled(Transformation):
    """Twice the channels."""

    def transform(self, images):
        return torch.cat([images, 1 - images], 1).round()

    def surrogate(self, images):
        return torch.cat([images, 1 - images], 1)

    def outer_shape(self, inner):
        return inner[0] // 2, inner[1], inner[2]


@pytest.fixture
def images():
    return torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def linear():
    return LinearClassifier(torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2)))


def slope(model: Model, images: torch.Tensor, column: int = 1) -> torch.Tensor:
    leaf = images.clone().requires_grad_(True)
    return torch.autograd.grad(model.predict(leaf)[:, column].sum(), leaf)[0]


@pytest.mark.parametrize("defense", [Halved(), Rounded(), Stepped()])
def test_it_answers_as_the_model_does_to_the_changed_image(defense, linear, images):
    model = defense.wrap(linear)
    assert torch.equal(model.predict(images), linear.predict(defense.transform(images)))
    with torch.enable_grad():
        asked = model.predict(images.clone().requires_grad_(True))
    assert torch.equal(asked.detach(), model.predict(images))
    assert (model.access, model.output, model.input_shape, model.num_classes) == (
        linear.access, linear.output, SHAPE, 3,
    )  # fmt: skip


def test_exact_is_what_autograd_says(linear, images):
    assert torch.autograd.gradcheck(
        TransformedModel(linear, Halved()).predict, images[:2].clone().double().requires_grad_(True)
    )
    torch.testing.assert_close(slope(Halved().wrap(linear), images), linear.weight[1].expand_as(images) / 2)


@pytest.mark.parametrize(("defense", "expected"), [(Rounded(), torch.ones_like), (Stepped(), lambda x: 2 * x)])
def test_bpda_gives_the_slope_of_the_surrogate_at_the_value_of_the_transform(defense, expected, linear, images):
    torch.testing.assert_close(slope(defense.wrap(linear), images), linear.weight[1] * expected(images))
    softened = slope(defense.wrap(_Squared(linear)), images)
    at = linear.predict(defense.transform(images))[:, 1]
    torch.testing.assert_close(
        softened, 2 * at[:, None, None, None] * linear.weight[1] * expected(images), rtol=1e-4, atol=1e-5
    )


def test_eot_is_the_gradient_of_the_mean_over_the_draws_that_answer(linear, images):
    defense = Shifted(DrawParams(draws=7, seed=3))
    model = defense.wrap(_Squared(linear))
    draws = [Draw(3, number, images.device) for number in range(7)]
    each = [model.base.predict(defense.transform(images, draw)) for draw in draws]
    torch.testing.assert_close(model.predict(images), torch.stack(each).mean(0))
    leaf = images.clone().requires_grad_(True)
    mean = sum(model.base.predict(defense.transform(leaf, draw)) for draw in draws)[:, 1] / 7
    torch.testing.assert_close(slope(model, images), torch.autograd.grad(mean.sum(), leaf)[0])
    with torch.enable_grad():
        assert torch.equal(model.predict(images.clone().requires_grad_(True)).detach(), model.predict(images))


def test_a_drawn_change_may_pass_its_gradient_by_bpda(linear, images):
    model = Noisy(DrawParams(draws=5)).wrap(linear)
    torch.testing.assert_close(slope(model, images), linear.weight[1].expand_as(images))


def test_draws_depend_on_seed_number_and_purpose_alone(linear, images):
    model = Shifted(DrawParams(draws=4, seed=1)).wrap(linear)
    torch.manual_seed(5)
    whole, state = model.predict(images), torch.get_rng_state()
    assert torch.equal(whole, model.predict(images))
    torch.testing.assert_close(whole[3:5], model.predict(images[3:5]))
    torch.testing.assert_close(whole.flip(0), model.predict(images.flip(0)))
    assert torch.equal(state, torch.get_rng_state())
    for other in ({"seed": 2}, {"draws": 5}):
        changed = Shifted(DrawParams(**{"draws": 4, "seed": 1} | other)).wrap(linear)
        assert not torch.allclose(changed.predict(images), whole)
        assert changed.fingerprint() != model.fingerprint()
    drawn = [Draw(0, number, images.device).uniform(name, 50) for number in range(2) for name in "ab"]
    assert len({float(row.sum()) for row in drawn}) == 4
    assert {Draw(0, number, images.device).integer("n", 3) for number in range(40)} == {0, 1, 2}
    normal = Draw(0, 0, images.device).normal("n", 10_000)
    assert abs(float(normal.mean())) < 4 / 100
    assert abs(float(normal.var()) - 1) < 4 * math.sqrt(2) / 100


def test_the_preflight_finds_it_deterministic_and_independent_of_the_batch(linear, images):
    found = preflight(Shifted(DrawParams(draws=3)).wrap(linear), images)
    assert found.deterministic
    assert found.batch_invariant
    assert found.access is Access.GRADIENTS


def test_two_defences_change_the_image_from_the_outside_in(linear, images):
    inner, outer = Halved(), Rounded()
    model = outer.wrap(inner.wrap(linear))
    assert torch.equal(model.predict(images), linear.predict(inner.transform(outer.transform(images))))
    other = inner.wrap(outer.wrap(linear))
    assert not torch.allclose(model.predict(images), other.predict(images))
    assert model.fingerprint() != other.fingerprint()
    torch.testing.assert_close(slope(model, images), linear.weight[1].expand_as(images) / 2)


@pytest.mark.parametrize("output", [Output.PROBABILITIES, Output.LABELS])
def test_probabilities_and_labels_stay_what_they_are(output, linear, images):
    base = LinearClassifier(linear.weight, output=output)
    assert torch.equal(Rounded().wrap(base).predict(images), base.predict(Rounded().transform(images)))
    model = Shifted(DrawParams(draws=6)).wrap(base)
    answer = model.predict(images)
    assert (model.output, model.access) == (base.output, base.access)
    each = torch.stack(
        [base.predict(Shifted().transform(images, Draw(0, number, images.device))) for number in range(6)]
    )
    if output is Output.LABELS:
        expected = [int(np.bincount(each[:, row]).argmax()) for row in range(len(images))]
        assert answer.tolist() == expected
        assert len({tuple(row.tolist()) for row in each}) > 1
    else:
        torch.testing.assert_close(answer.sum(1), torch.ones(len(images)))


@pytest.mark.parametrize("code", [-1, -2, 2**40])
def test_a_code_that_is_no_class_is_passed_on(code, linear, images):
    class Refusing(LinearClassifier):
        def predict(self, images):
            return torch.full((len(images),), code)

    model = Shifted(DrawParams(draws=3)).wrap(Refusing(linear.weight, output=Output.LABELS))
    assert model.predict(images).tolist() == [code] * len(images)
    assert model.predict(images[:0]).shape == (0,)


def test_a_black_box_is_scored_without_gradients(images):
    base = CallableModel.from_callable(lambda rows: (rows.mean(axis=(1, 2, 3)) > 0.5).astype("int64"), array="numpy")
    model = Halved().wrap(base)
    answer = model.predict(images + 0.5)  # only now the callable is known to give labels
    assert answer.dtype == torch.int64
    assert (model.output, model.access) == (Output.LABELS, Access.LABELS)
    assert any("no gradients pass Halved" in note for note in model.notes)
    assert preflight(model, images).access is Access.LABELS


def test_a_change_of_shape_is_told_outside(images):
    base = LinearModel(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)))
    model = Doubled().wrap(base)
    assert model.input_shape == SHAPE
    torch.testing.assert_close(slope(model, images), (base.weight[:1] - base.weight[1:]).expand_as(images))


class Shapeless(Doubled):
    """Forgets that its surrogate must have the shape of what it stands for."""

    surrogate = Transformation.surrogate


class Losing(Halved):
    """Loses an image."""

    def transform(self, images):
        return images[1:]


@pytest.mark.parametrize(
    ("defense", "words"), [(Shapeless(), "override `surrogate`"), (Losing(), r"found: +\(11, 1, 3, 4\)")]
)
def test_a_defence_that_breaks_its_contract_is_named(defense, words, images):
    model = defense.wrap(LinearModel(torch.ones(2, 3, 4)))
    with pytest.raises(ModelError, match=words) as caught:
        model.predict(images.clone().requires_grad_(True))
    assert type(defense).__name__ in str(caught.value)


def test_other_ways_of_the_model_inside_work_behind_the_change(linear, images):
    def build():
        return lambda rows: linear.predict(rows) + 1

    class Offering(LinearClassifier):
        def forwards(self):
            return {"plus one": build}

        def differentiable(self):
            return {"plus one": build}

    model = Shifted(DrawParams(draws=2)).wrap(Offering(linear.weight))
    for ways in (model.forwards(), model.differentiable()):
        torch.testing.assert_close(ways["plus one"]()(images), model.predict(images) + 1)


def test_an_oracle_gets_scores_and_gradients_of_the_defended_model(linear, images):
    model = Rounded().wrap(linear)
    labels = model.predict(images).argmax(1)
    engine = QueryEngine.measure(model, Output.LOGITS, images, gradients=True)
    threat = ThreatModel(norm=Norm.LINF, radius=0.1, access=Access.GRADIENTS)
    oracle = Oracle(engine, model, images, labels, None, threat)
    found = oracle.loss_and_gradient(images, torch.arange(len(images)))
    pixels = (images * 255).round() / 255
    torch.testing.assert_close(found.scores, linear.predict(Rounded().transform(pixels)))
    assert found.gradient.flatten(1).abs().amax(1).gt(0).all()


def test_straight_through_keeps_the_value_to_the_bit():
    value, surrogate = torch.rand(1000) * 1e-3, torch.rand(1000, requires_grad=True)
    passed = straight_through(value, surrogate * 3)
    assert torch.equal(passed.detach(), value)
    assert torch.equal(torch.autograd.grad(passed.sum(), surrogate)[0], torch.full((1000,), 3.0))


def test_its_fingerprint_is_that_of_base_and_settings(linear):
    found = Rounded(Rounded.Params(steps=9)).wrap(linear).fingerprint()
    inside = {f"base.{key}": value for key, value in linear.fingerprint().items()}
    assert found == {**inside, "transformation": "Rounded", "steps": "9"}
    assert TransformedModel(linear, Rounded()).graph() is None


class Watcher(Detector):
    """Flags nothing."""

    def flag(self, model, images):
        return torch.zeros(len(images))


def test_a_detector_cannot_stand_before_a_model():
    registry = Registry()

    class Plugin:
        @staticmethod
        def charpy_defenses():
            return {"watcher": Watcher, "halved": Halved}

    registry.add(Plugin(), "test")
    spec = {"reference": "digits-cnn", "defenses": [{"kind": "halved"}]}
    assert isinstance(subject_of(parse(ModelSpec, spec), registry).open(), TransformedModel)
    with pytest.raises(ModelError, match="a detector: Watcher"):
        subject_of(parse(ModelSpec, spec | {"defenses": [{"kind": "watcher"}]}), registry).open()
    assert issubclass(Transformation, Defense)


class _Squared(LinearClassifier):
    """Scores squared: its slope depends on the image."""

    def __init__(self, base):
        super().__init__(base.weight)

    def predict(self, images):
        return super().predict(images).square()
