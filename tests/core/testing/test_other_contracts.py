"""Each check of the other contracts fails on a component that breaks it; honest ones pass them all."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ConfigDict

from charpy import testing
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.defense import Detector, GradientPath, TrainingDefense
from charpy.interfaces.metric import Direction, Metric
from charpy.interfaces.model import Output
from charpy.testing import (
    CertifierContract,
    Contract,
    ContractError,
    DatasetContract,
    DefenseContract,
    DetectorContract,
    MetricContract,
    ModelContract,
    TrainingDefenseContract,
)
from charpy.testing import __main__ as listing
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Norm
from charpy.transforms import Transformation
from charpy_plugins.metrics.lp import check_pair


class Scale(BaseParams):
    """One number."""

    factor: float = param(0.5, gt=0, le=1, description="what it is multiplied by", source="ours")


class Bare(BaseParams):
    """A number without bounds."""

    factor: float = 0.5


class Forgiving(Scale):
    """Ignores what it does not know."""

    model_config = ConfigDict(extra="ignore")


def lies(honest: type, **parts: Any) -> type:
    return type("Liar", (honest,), {"__doc__": "Lies about one thing.", **parts})


def common(honest: type) -> dict[str, Any]:
    """Of the checks that every contract has."""
    return {
        "test_has_a_summary": lies(honest, __doc__="no sentence"),
        "test_every_parameter_is_documented": lies(honest, Params=Bare),
        "test_unknown_parameters_are_refused": lies(honest, Params=Forgiving),
        "test_effects_name_parameters": (honest, {"effects": {"faktor": 1.0}}),
    }


# Metrics


class Change(Metric):
    """Mean absolute change, times a factor."""

    Params = Scale
    unit = "image values"
    range = (0.0, 1.0)

    def __call__(self, images, perturbed):
        check_pair(images, perturbed)
        return (perturbed - images).abs().flatten(1).mean(1) * self.params.factor


class HonestMetric(MetricContract):
    component = Change
    differentiable = True
    effects: ClassVar = {"factor": 0.7}


def called(change):
    """`Change` whose values are changed by `change(values, images, perturbed)`."""
    return lies(Change, __call__=lambda self, a, b: change(Change.__call__(self, a, b), a, b))


def seeded(value, *rest):
    random.seed(0)
    return value


def wrote(value, images, perturbed):
    perturbed.zero_()
    return value


def names_it(self):
    self.count = getattr(type(self), "count", 0) + 1
    type(self).count = self.count
    return {"count": str(self.count)}


METRICS = {
    "test_declares_unit_direction_and_range": lies(Change, unit=""),
    "test_gives_one_float32_for_each_pair": called(lambda v, a, b: v.double()),
    "test_equal_images_have_the_best_value": called(lambda v, a, b: v + 0.1),
    "test_more_noise_is_farther": lies(Change, direction=Direction.SIMILARITY),
    "test_values_lie_in_the_range": called(lambda v, a, b: v * 9),
    "test_is_symmetric_where_declared": called(lambda v, a, b: v * a.flatten(1).mean(1)),
    "test_a_pair_does_not_depend_on_the_others": called(lambda v, a, b: v / len(v)),
    "test_the_same_pair_has_the_same_value": called(lambda v, a, b: v * torch.rand(1)),
    "test_gradients_are_those_of_finite_differences": called(lambda v, a, b: v + v.detach()),
    "test_small_images_are_measured_or_refused": called(lambda v, a, b: v + a.unfold(3, 5, 1).sum() * 0),
    "test_pairs_that_do_not_match_are_refused": lies(
        Change, __call__=lambda self, a, b: (a.float() - b.float()).abs().flatten(1).mean(1)),
    "test_nan_is_never_no_change": called(lambda v, a, b: v.nan_to_num(nan=0.0)),
    "test_leaves_its_inputs_alone": called(wrote),
    "test_leaves_global_state_alone": called(seeded),
    "test_each_effect_is_one": lies(Change, __call__=lambda self, a, b: Change()(a, b)),
    "test_its_fingerprint_is_stable": lies(Change, fingerprint=names_it),
    **common(Change),
}  # fmt: skip

# Models


class Straight(LinearClassifier):
    """A linear model of 3 classes."""

    seed = 0

    def __init__(self, params=None):
        generator = torch.Generator().manual_seed(self.seed)
        super().__init__(torch.randn(3, 1, 8, 8, generator=generator))
        self.params = params


class HonestModel(ModelContract):
    component = Straight

    def another(self):
        return lies(self.component, seed=1)()


def predicts(change):
    return lies(Straight, predict=lambda self, images: change(Straight.predict(self, images), images, self))


def moved(scores, images, model):
    model.bias = model.bias + 1
    return scores


def scribbled(scores, images, model):
    images.add_(1)
    return scores


class OtherGraph(Straight):
    """Shows the graph of another model."""

    def graph(self):
        return lies(Straight, seed=2)().graph()


class Wrong(Straight):
    """Offers a way that is another model."""

    def forwards(self):
        return {"fast": lambda: lies(Straight, seed=2)().predict}


MODELS = {
    "test_answers_have_the_declared_form": predicts(lambda s, x, m: s[:, :2]),
    "test_answers_are_numbers": predicts(lambda s, x, m: s / 0),
    "test_output_is_what_is_declared": predicts(lambda s, x, m: s.softmax(1)),
    "test_the_same_image_gets_the_same_answer": predicts(lambda s, x, m: s + torch.rand(1)),
    "test_an_answer_does_not_depend_on_the_batch": predicts(lambda s, x, m: s - s.mean(0)),
    "test_leaves_its_images_alone": predicts(scribbled),
    "test_does_not_change_itself": predicts(moved),
    "test_leaves_global_state_alone": predicts(lambda s, x, m: torch.manual_seed(0) and s),
    "test_access_is_honest": predicts(lambda s, x, m: s + 0.5 * (s - s.detach())),
    "test_its_fingerprint_says_which_model_it_is": lies(Straight, fingerprint=lambda self: {}),
    "test_its_fingerprint_follows_its_weights": lies(Straight, fingerprint=lambda self: {"model": "straight"}),
    "test_other_ways_to_compute_it_agree": Wrong,
    "test_its_graph_is_the_model": OtherGraph,
    "test_references_that_are_not_its_own_are_left_to_others": lies(Straight, accepts=classmethod(lambda *_: {})),
    "test_export_writes_a_file_or_says_why_not": lies(Straight, export=lambda self, path: {}),
    **common(Straight),
}

# Defences


class Fade(Transformation):
    """Multiplies every value by a factor."""

    Params = Scale
    gradient = GradientPath.EXACT

    def transform(self, images):
        return images * self.params.factor


class HonestDefense(DefenseContract):
    component = Fade
    effects: ClassVar = {"factor": 0.7}


def faded(change):
    return lies(Fade, transform=lambda self, images: change(Fade.transform(self, images), images))


def wraps(change):
    def wrap(self, model):
        defended = Fade.wrap(self, model)
        change(defended, model)
        return defended

    return lies(Fade, wrap=wrap)


def spoil(defended, model):
    model.bias = model.bias + 1


def promise(defended, model):
    if model.output is Output.LABELS:
        defended._follow_base()
        defended._follow_base = lambda: None
        defended.access = Access.GRADIENTS


DEFENSES = {
    "test_wraps_a_model": lies(Fade, wrap=lambda self, model: model.predict),
    "test_declares_how_gradients_pass": lies(Fade, gradient="somehow"),
    "test_the_model_inside_stays_as_it_is": wraps(spoil),
    "test_changes_something": faded(lambda y, x: x),
    "test_the_model_inside_sees_images": faded(lambda y, x: y * 4),
    "test_gives_no_more_than_the_model_inside": wraps(promise),
    "test_gradients_pass_as_declared": faded(lambda y, x: y + (x - x.detach())),
    "test_an_answer_depends_on_its_image_and_seed_alone": faded(lambda y, x: y * torch.rand(1)),
    "test_its_fingerprint_holds_the_model_inside_and_the_defence": lies(Fade, settings=lambda self: {}),
    "test_each_effect_is_one": lies(Fade, transform=lambda self, images: images * 0.5),
    "test_leaves_its_images_alone": faded(lambda y, x: x.mul_(0.5)),
    "test_leaves_global_state_alone": faded(lambda y, x: torch.manual_seed(0) and y),
    **common(Fade),
}


class Loud(Detector):
    """The variance of the scores, times a factor."""

    Params = Scale

    def flag(self, model, images):
        return model.predict(images).var(1) * self.params.factor


class HonestDetector(DetectorContract):
    component = Loud
    effects: ClassVar = {"factor": 0.7}


def flags(change):
    return lies(Loud, flag=lambda self, model, images: change(Loud.flag(self, model, images), model, images))


def retune(value, model, images):
    model.bias = model.bias + 1
    return value


DETECTORS = {
    "test_gives_one_float32_for_each_image": flags(lambda v, m, x: v.double()),
    "test_tells_images_apart": flags(lambda v, m, x: v * 0),
    "test_a_score_depends_on_its_image_alone": flags(lambda v, m, x: v / v.sum()),
    "test_the_model_stays_as_it_is": flags(retune),
    "test_each_effect_is_one": lies(Loud, flag=lambda self, model, images: model.predict(images).var(1)),
    **common(Loud),
}


class Noise(TrainingDefense):
    """Learns from noisy images."""

    Params = Scale

    def images_for(self, lesson):
        noise = lesson.random("noise").uniform(torch.arange(len(lesson.images)), 0, *lesson.images.shape[1:])
        return (lesson.images + self.params.factor * (noise - 0.5)).clamp(0, 1)


class HonestTraining(TrainingDefenseContract):
    component = Noise


def lessons(change):
    return lies(Noise, images_for=lambda self, lesson: change(Noise.images_for(self, lesson), lesson))


def leave_gradients(images, lesson):
    lesson.scores(images).sum().backward()
    return images


class Forgetful(Noise):
    """Says that it has a state, and does not take it back."""

    def __init__(self, params=None):
        super().__init__(params)
        self.seen = 0

    def images_for(self, lesson):
        self.seen += 1
        return super().images_for(lesson)

    def state(self):
        return {"seen": self.seen}


TRAININGS = {
    "test_learns_from_images": lessons(lambda y, lesson: y * 2),
    "test_its_loss_can_be_made_small": lies(Noise, loss=lambda self, lesson, scores: scores.detach().sum()),
    "test_leaves_the_network_and_the_lesson_alone": lessons(leave_gradients),
    "test_the_same_lesson_gives_the_same_images": lessons(lambda y, lesson: y * random.random()),
    "test_declares_how_it_trains": lies(Noise, phases=0),
    "test_goes_on_from_its_state": Forgetful,
    **common(Noise),
}

# Certifiers


class Exact(Certifier):
    """Proves linear models up to a factor of the distance of their boundary."""

    Params = Scale
    norms = frozenset({Norm.LINF, Norm.L2})
    arithmetic = Arithmetic.REAL

    def supports(self, model, threat):
        return "" if isinstance(model, LinearClassifier) and model.output is Output.LOGITS else "no linear scores"

    def distance(self, model, images, labels, threat):
        return model.smallest(threat.norm, images, labels) * 2 * self.params.factor

    def certify(self, model, images, labels, threat):
        if self.supports(model, threat) or not len(images):
            return torch.zeros(len(images), dtype=torch.bool)
        scores = model.predict(images)
        right = (scores.argmax(1) == labels) & scores.isfinite().all(1)
        return right & (self.distance(model, images, labels, threat) > threat.radius * (1 + 1e-6))


class HonestCertifier(CertifierContract):
    component = Exact


def proves(change):
    return lies(Exact, certify=lambda self, *given: change(Exact.certify(self, *given), *given))


def forget(proven, model, images, labels, threat):
    images.zero_()
    return proven


CERTIFIERS = {
    "test_declares_what_it_is": lies(Exact, arithmetic="exact"),
    "test_gives_one_bool_for_each_sample": proves(lambda y, *given: y.float()),
    "test_never_proves_what_a_witness_breaks": lies(Exact, distance=lambda self, *of: Exact.distance(self, *of) * 1.05),
    "test_proves_something": proves(lambda y, *given: y & False),
    "test_a_smaller_radius_is_never_harder": proves(lambda y, *given: y & (given[3].radius > 0.05)),
    "test_never_proves_a_wrong_label": lies(Exact, certify=lambda self, model, images, labels, threat: Exact.certify(
        self, model, images, model.predict(images).argmax(1) if len(images) else labels, threat)),
    "test_is_silent_where_it_has_nothing_to_say": proves(lambda y, *given: y | (given[0].output is Output.LABELS)),
    "test_proves_nothing_of_a_model_that_answers_nan": proves(
        lambda y, *given: y | given[0].predict(given[1]).isnan().all(1)
    ),
    "test_a_sample_does_not_depend_on_the_others": proves(lambda y, *given: y & (len(y) > 1)),
    "test_leaves_its_inputs_alone": proves(forget),
    **common(Exact),
}  # fmt: skip

# Datasets


class Grains(Dataset):
    """Noise of two classes."""

    Params = Scale
    name = "grains"
    class_names = ("one", "other")
    shape = (1, 4, 4)
    size = 30

    def __init__(self, params=None):
        super().__init__(params)
        noise = torch.rand(self.size, *self.shape, generator=torch.Generator().manual_seed(0))
        self.pixels = (noise * 255 * self.params.factor).round()

    def __len__(self):
        return self.size

    def read(self, indices):
        rows = list(indices)
        return Samples(
            self.pixels[rows] / 255, torch.tensor(rows, dtype=torch.int64) % 2, tuple(f"grain/{i}" for i in rows)
        )

    def fingerprint(self):
        return str(self.pixels.sum())


class HonestDataset(DatasetContract):
    component = Grains

    def another(self):
        return self.make(factor=0.7)


def reads(change):
    return lies(Grains, read=lambda self, indices: change(Grains.read(self, indices), list(indices), self))


class Shared(Grains):
    """Gives what it keeps."""

    def read(self, indices):
        rows = list(indices)
        whole = rows == list(range(rows[0], rows[0] + len(rows))) if rows else False
        if not whole:
            return super().read(rows)
        found = super().read(rows)
        self.__dict__.setdefault("mine", self.pixels / 255)
        return found._replace(images=self.mine[rows[0] : rows[0] + len(rows)])


class Stirred(Grains):
    """Another fingerprint after reading."""

    def read(self, indices):
        self.read_once = True
        return super().read(indices)

    def fingerprint(self):
        return super().fingerprint() + str(getattr(self, "read_once", ""))


DATASETS = {
    "test_says_what_it_is": lies(Grains, class_names=("one", "one")),
    "test_images_are_images": reads(lambda s, rows, d: s._replace(images=s.images * 3)),
    "test_images_lie_on_the_declared_grid": reads(lambda s, rows, d: s._replace(images=s.images * 0.999)),
    "test_labels_are_classes": reads(lambda s, rows, d: s._replace(labels=s.labels + 1)),
    "test_ids_are_stable_and_unique": reads(lambda s, rows, d: s._replace(ids=tuple(f"{i}" for i in range(len(rows))))),
    "test_rows_come_in_the_order_asked": reads(lambda s, rows, d: Grains.read(d, sorted(rows))),
    "test_reading_nothing_gives_nothing": reads(lambda s, rows, d: s if rows else Grains.read(d, range(30))),
    "test_rows_that_are_not_there_are_refused": lies(
        Grains, read=lambda self, indices: Grains.read(self, [i % 30 for i in indices])),
    "test_what_is_read_belongs_to_the_reader": Shared,
    "test_its_fingerprint_is_stable": Stirred,
    "test_its_fingerprint_follows_its_content": lies(Grains, fingerprint=lambda self: "grains"),
    "test_references_that_are_not_its_own_are_left_to_others": lies(Grains, accepts=classmethod(lambda *_: {})),
    "test_leaves_global_state_alone": reads(lambda s, rows, d: torch.manual_seed(0) and s),
    **common(Grains),
}  # fmt: skip

EVERY = {
    HonestMetric: METRICS,
    HonestModel: MODELS,
    HonestDefense: DEFENSES,
    HonestDetector: DETECTORS,
    HonestTraining: TRAININGS,
    HonestCertifier: CERTIFIERS,
    HonestDataset: DATASETS,
}
LIARS = [(honest, check, liar) for honest, table in EVERY.items() for check, liar in table.items()]


@pytest.mark.parametrize("honest", EVERY)
def test_an_honest_one_passes_and_every_check_has_a_liar(honest):
    assert honest.breaches() == {}
    assert set(EVERY[honest]) == set(honest.checks())


@pytest.mark.parametrize(("honest", "check", "liar"), LIARS, ids=[f"{a.__name__}-{b}" for a, b, _ in LIARS])
def test_a_liar_is_caught(honest: type[Contract], check, liar):
    component, more = liar if isinstance(liar, tuple) else (liar, {})
    with pytest.raises(Exception, match=r".") as caught:
        getattr(type("Under", (honest,), {"component": component, **more})(), check)()
    assert isinstance(caught.value, AssertionError) or check in MAY_RAISE, repr(caught.value)


MAY_RAISE = {"test_wraps_a_model"}


def test_checks_that_do_not_apply_say_so():
    from unittest import SkipTest

    with pytest.raises(SkipTest, match="differentiable"):
        type("Under", (HonestMetric,), {"differentiable": False})().test_gradients_are_those_of_finite_differences()
    opaque = type("Under", (HonestCertifier,), {"component": lies(Exact, supports=lambda *_: "not today")})
    with pytest.raises(SkipTest, match="not today"):
        opaque().test_proves_something()


def test_the_page_tells_every_class_and_how_many_checks_it_has():
    page = (Path(__file__).resolve().parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
    told = {name: int(count) for name, count in re.findall(r"^\| `(\w+Contract)` \| (\d+) \|", page, re.MULTILINE)}
    classes = {
        name: getattr(testing, name) for name in testing.__all__ if name.endswith("Contract") and name != "Contract"
    }
    shared = set(Contract.checks())
    assert told == {name: len(set(kind.checks()) - shared) for name, kind in classes.items()}
    assert f"| every one | {len(shared)} |" in page
    assert sum(told.values()) >= 25
    every = len(shared) + sum(told.values())
    assert f"[Every check by its name](contracts.md), {every} of them" in page


def test_the_page_of_checks_is_the_current_one():
    text = (Path(__file__).resolve().parents[3] / "docs" / "contracts.md").read_text(encoding="utf-8")
    assert text == listing.page(), "write it again: python -m charpy.testing > docs/contracts.md"
    assert len(re.findall(r"^\| `test_\w+` \| .+ \|$", text, re.MULTILINE)) >= 25


def test_a_test_without_a_component_says_so():
    forgotten = type("TestForgotten", (MetricContract,), {})
    found = forgotten.breaches()
    spared = {"test_gradients_are_those_of_finite_differences", "test_each_effect_is_one"}  # nothing is declared
    assert set(found) == set(forgotten.checks()) - spared
    said = "TestForgotten names no component; write `component = YourClass` in it"
    assert all(text.endswith(said) for text in found.values())


@pytest.mark.parametrize(
    ("contract", "sort"),
    [
        (testing.AttackContract, "Attack"),
        (CertifierContract, "Certifier"),
        (DatasetContract, "Dataset"),
        (DefenseContract, "Defense"),
        (DetectorContract, "Detector"),
        (MetricContract, "Metric"),
        (ModelContract, "Model"),
        (TrainingDefenseContract, "TrainingDefense"),
    ],
)
@pytest.mark.parametrize("named", [int, "Change", Change()], ids=["int", "text", "instance"])
def test_a_component_of_another_sort_is_refused_where_it_is_named(contract, sort, named):
    with pytest.raises(ContractError, match=f"TestOdd tests classes that derive from {sort}; found: .*"):
        type("TestOdd", (contract,), {"component": named})


def test_an_answer_that_is_no_tensor_is_named():
    class TestNumpy(ModelContract):
        component = lies(Straight, predict=lambda self, images: Straight.predict(self, images).detach().numpy())

    found = TestNumpy.breaches()
    assert found["test_answers_have_the_declared_form"] == (
        "ContractError: predict gives no torch tensor; found: ndarray"
    )
