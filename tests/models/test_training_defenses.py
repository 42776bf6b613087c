"""Recipes with defences: what the training loop makes of them."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from charpy.cli.app import run_program
from charpy.errors import ModelError, PluginError, SpecError, UnknownNameError
from charpy.hookspecs import hookimpl
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.plugins import Registry, registry
from charpy.specs import ComponentSpec, ModelSpec
from charpy.subjects import subject_of
from charpy_models.accuracy import count_correct, count_robust
from charpy_models.architectures.wide_resnet import WideResNet
from charpy_models.checkpoint import Checkpoint
from charpy_models.data import read_split
from charpy_models.defenses import defenses_of
from charpy_models.fit import fit
from charpy_models.recipe import Augmentation, Recipe
from charpy_models.recipes import recipe_for
from charpy_models.training import Images, Progress
from charpy_plugins.defenses.distillation import Distillation
from charpy_plugins.defenses.tvm import Tvm

RECIPE = Recipe(
    architecture="charpy_models.architectures.wide_resnet:WideResNet",
    architecture_params={
        **{"in_channels": 1, "num_classes": 2, "mean": [0.5], "std": [0.5]},
        **{"depth": 10, "widen": 1, "base": 2, "dropout": 0.3},
    },
    data="none",
    epochs=2,
    batch_size=10,
    learning_rate=0.01,
    augmentation=Augmentation(shift=1),
)
"""Every kind of randomness: order, augmentation, dropout."""


@pytest.fixture
def data() -> Images:
    draw = torch.Generator().manual_seed(7)
    labels = torch.arange(24) % 2
    images = torch.randint(0, 100, (24, 1, 8, 8), generator=draw) + 150 * labels[:, None, None, None]
    return Images(images.to(torch.uint8), labels)


def with_defenses(*specs: ComponentSpec | tuple[str, dict[str, Any]]) -> Recipe:
    made = tuple(
        spec if isinstance(spec, ComponentSpec) else ComponentSpec(kind=spec[0], params=spec[1]) for spec in specs
    )
    return RECIPE.model_copy(update={"defenses": made})


def at(**params: Any) -> Recipe:
    return with_defenses(("adversarial_training", {"radius": 0.1, **params}))


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


NOTHING = {
    "replace": {"radius": 0},
    "fast": {"radius": 0, "method": "fast"},
    "free": {"radius": 0, "method": "free", "replays": 1},
    "replace, none": {"share": 0},
    "replace, a ball of one float": {"radius": 1e-12, "attack": {"kind": "pgd", "params": {"steps": 2}}},
}


@pytest.mark.parametrize("params", NOTHING.values(), ids=NOTHING)
def test_without_a_radius_it_is_plain_training_to_the_bit(data, params):
    assert same(fit(RECIPE, *data, seed=3).module, fit(at(**params), *data, seed=3).module)


@pytest.mark.parametrize(
    ("kind", "base", "change"),
    [
        ("adversarial_training", {}, {"radius": 0.2}),
        ("adversarial_training", {}, {"norm": "l2"}),
        ("adversarial_training", {}, {"method": "fast"}),
        ("adversarial_training", {}, {"method": "free", "replays": 2}),
        ("adversarial_training", {}, {"share": 0.5}),
        ("adversarial_training", {}, {"ramp": 0.5}),
        ("adversarial_training", {}, {"attack": {"kind": "fgm"}}),
        ("adversarial_training", {"attack": {"kind": "square"}, "queries": 4}, {"queries": 8}),
        ("adversarial_training", {"method": "fast"}, {"steps": 2}),
        ("adversarial_training", {"method": "fast"}, {"step_size": 0.03}),
        ("adversarial_training", {"method": "free", "replays": 2}, {"replays": 3}),
        ("trades", {"steps": 2}, {"radius": 0.2}),
        ("trades", {"steps": 2}, {"norm": "l2"}),
        ("trades", {"steps": 2}, {"beta": 1}),
        ("trades", {"steps": 2}, {"steps": 3}),
        ("trades", {"steps": 2}, {"step_size": 0.01}),
        ("trades", {"steps": 2}, {"start": 0.01}),
        ("distillation", {}, {"temperature": 2}),
        ("tvm", {"steps": 3}, {"steps": 4}),
        ("tvm", {"steps": 3}, {"seed": 1}),
        ("randomized_smoothing", {}, {"sigma": 0.5}),
        ("randomized_smoothing", {}, {"clip": False}),
        ("randomized_ablation", {}, {"keep": 20}),
        ("randomized_ablation", {}, {"fill": 0.2}),
    ],
    ids=str,
)
def test_every_parameter_has_an_effect(data, kind, base, change):
    base = {**({"radius": 0.1} if kind in ("adversarial_training", "trades") else {}), **base}
    one, other, plain = (
        fit(recipe, *data, seed=3).module
        for recipe in (with_defenses((kind, base)), with_defenses((kind, {**base, **change})), RECIPE)
    )
    assert not same(one, other)
    assert not same(one, plain)


@pytest.mark.parametrize("replays", [1, 3])
def test_free_takes_a_pass_and_a_step_a_replay(data, monkeypatch, replays):
    passes, steps, forward, step = [], [], WideResNet.forward, torch.optim.AdamW.step
    monkeypatch.setattr(WideResNet, "forward", lambda self, x: passes.append(len(x)) or forward(self, x))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **rest: steps.append(1) or step(*args, **rest))
    fit(at(method="free", replays=replays), *data, seed=3)
    assert passes == ([10] * replays + [10] * replays + [4] * replays) * 2
    assert len(steps) == len(passes)


def test_a_student_learns_from_the_best_teacher(data, monkeypatch):
    """The teacher is a training of its own at the temperature; the student begins afresh."""
    begun: list[tuple[int, nn.Module | None]] = []
    begin = Distillation.begin
    monkeypatch.setattr(
        Distillation, "begin", lambda self, phase, before: begun.append((phase, before)) or begin(self, phase, before)
    )
    monkeypatch.setattr(Distillation, "phases", 1)
    recipe, told = with_defenses(("distillation", {"temperature": 5})), []
    alone = fit(recipe, *data, seed=3, held_out=data)
    assert begun == [(0, None)]
    monkeypatch.setattr(Distillation, "phases", 2)
    student = fit(recipe, *data, seed=3, held_out=data, listen=told.append)
    assert [phase for phase, _ in begun[1:]] == [0, 1]
    assert same(begun[-1][1], alone.module)
    assert not same(student.module, alone.module)
    assert {now.epoch for now in told} == {1, 2, 3, 4}
    assert {now.epochs for now in told} == {4}
    assert student.epoch in (3, 4)


def test_changed_images_are_drawn_anew_for_every_batch(data, monkeypatch):
    draws, change = [], Tvm.change
    monkeypatch.setattr(Tvm, "change", lambda self, x, draw: draws.append(draw) or change(self, x, draw))
    fit(with_defenses(("tvm", {"steps": 3})), *data, seed=3)
    assert draws == list(range(6))


class Noisy(TrainingDefense):
    """A stranger's: noise that grows with every step, and a penalty on large scores."""

    class Params(BaseParams):
        """How much."""

        size: float = param(0.01, gt=0, description="of the noise")
        wrong: bool = param(False, description="forget an image")

    steps = 0

    def images_for(self, lesson: Lesson) -> torch.Tensor:
        """Noise, from torch's global generator."""
        self.steps += 1
        noise = self.params.size * self.steps * torch.randn_like(lesson.images)
        return (lesson.images + noise).clamp(0, 1)[int(self.params.wrong) :]

    def loss(self, lesson: Lesson, scores: torch.Tensor) -> torch.Tensor:
        """The loss of what comes before, and the penalty."""
        return lesson.loss(scores, lesson.labels) + scores.square().mean()

    def state(self) -> dict[str, Any]:
        """How far it is."""
        return {"steps": self.steps}

    def load(self, state: dict[str, Any], module: nn.Module) -> None:
        """Go on there."""
        self.steps = state["steps"]


class Watcher(TrainingDefense):
    """Notes what it is given."""

    seen: ClassVar[list[tuple[Lesson, torch.Tensor, bool]]] = []

    def loss(self, lesson: Lesson, scores: torch.Tensor) -> torch.Tensor:
        """That of what comes before."""
        value = lesson.loss(scores, lesson.labels)
        found = torch.cat([scores.detach().flatten(), value.detach()[None]])
        self.seen.append((lesson, found, lesson.module.training))
        return value


class Plugin:
    """A stranger's plugin."""

    @hookimpl
    def charpy_defenses(self) -> dict[str, object]:
        return {"noisy": Noisy, "watcher": Watcher}


@pytest.fixture
def _strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry()
    known.add(Plugin(), "stranger", "charpy-stranger", "3.2")
    for place in ("charpy_models.defenses", "charpy_models.train"):
        monkeypatch.setattr(f"{place}.registry", lambda: known)


@pytest.mark.usefixtures("_strangers")
def test_a_strangers_defence_works_by_kind_and_goes_on(tmp_path, data):
    recipe = with_defenses(("noisy", {}), ("adversarial_training", {"radius": 0.05, "method": "fast"}))
    undisturbed = fit(recipe, *data, seed=3).module
    assert not same(undisturbed, fit(recipe.model_copy(update={"defenses": recipe.defenses[1:]}), *data, seed=3).module)

    def stop(now: Progress) -> None:
        if (now.epoch, now.step) == (2, 1):
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "it", {})
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, *data, seed=3, checkpoint=checkpoint, listen=stop)
    assert same(undisturbed, fit(recipe, *data, seed=3, checkpoint=checkpoint).module)


@pytest.mark.usefixtures("_strangers")
def test_losses_are_added_in_order(data):
    """The watcher's loss is that of the one before it, on the images of the last one."""
    Watcher.seen.clear()
    fit(with_defenses(("noisy", {}), ("watcher", {})), *data, seed=3)
    lessons = [lesson for lesson, *_ in Watcher.seen]
    assert [lesson.step for lesson in lessons] == list(range(6))
    assert [lesson.done for lesson in lessons] == pytest.approx([step / 6 for step in range(6)])
    assert {lesson.seed for lesson in lessons} == {3}
    for lesson, found, in_train_mode in Watcher.seen:
        assert in_train_mode
        scores, value = found[:-1].view(-1, 2), found[-1]
        expected = nn.functional.cross_entropy(scores, lesson.labels) + scores.square().mean()
        torch.testing.assert_close(value, expected)


@pytest.mark.usefixtures("_strangers")
def test_images_that_go_missing_are_an_error(data):
    with pytest.raises(PluginError, match=r"Noisy.*\n.*\(9, 1, 8, 8\)"):
        fit(with_defenses(("noisy", {"wrong": True})), *data, seed=3)


@pytest.mark.usefixtures("_strangers")
def test_the_card_names_the_defences(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text(
        "recipe: {like: digits-cnn, epochs: 1, defenses: [{kind: noisy, params: {size: 0.001}}]}\nthreads: 1\n"
    )
    assert run_program(["train", "it.yaml", "--out", "here"]) == 0
    assert "trained with noisy" in capsys.readouterr().out
    card = json.loads((tmp_path / "here" / "it.json").read_text())
    assert card["defenses"] == [
        {"kind": "noisy", "params": {"size": 0.001, "wrong": False}, "package": "charpy-stranger 3.2"}
    ]
    assert "robust_accuracy" not in card


BAD = {
    "unknown": (("trade", {"radius": 1}), UnknownNameError, "trades"),
    "detector": (("feature_squeezing_detector", {}), SpecError, "nothing is trained"),
    "no radius": (("trades", {}), SpecError, "radius"),
    "unknown parameter": (("distillation", {"temprature": 3}), SpecError, "temperature"),
    "attack": (("adversarial_training", {"radius": 1, "attack": {"kind": "fast"}}), SpecError, "battery"),
}


@pytest.mark.parametrize(("spec", "error", "words"), BAD.values(), ids=BAD)
def test_a_bad_defence_is_refused_before_anything_is_trained(data, spec, error, words):
    told: list[Progress] = []
    with pytest.raises(error, match=words):
        fit(with_defenses(spec), *data, seed=3, listen=told.append)
    assert not told


@pytest.mark.parametrize("before", [("trades", {"radius": 0.1}), ("distillation", {})])
def test_a_loss_is_not_left_out(data, before):
    told: list[Progress] = []
    with pytest.raises(SpecError, match="leave out the loss") as caught:
        fit(with_defenses(before, ("distillation", {})), *data, seed=3, listen=told.append)
    assert not told
    assert "first" in caught.value.hint
    assert len(defenses_of(with_defenses(("adversarial_training", {"radius": 0.1}), ("distillation", {})))) == 2
    assert len(defenses_of(with_defenses(("distillation", {}), ("trades", {"radius": 0.1})))) == 2


def test_a_bad_defence_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text("recipe: {like: digits-cnn, defenses: [{kind: trades}]}")
    assert run_program(["train", "it.yaml", "--out", "here"]) == 2
    assert "radius" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("params", [{}, {"radius": 0.1}], ids=["bare", "radius"])
@pytest.mark.parametrize("kind", ["adversarial_training", "trades", "distillation"])
def test_a_run_is_told_to_train_instead(kind, params):
    spec = ModelSpec(reference="digits-cnn", defenses=(ComponentSpec(kind=kind, params=params),))
    with pytest.raises(ModelError, match="charpy train") as caught:
        subject_of(spec, registry()).open()
    assert "open the weights" in caught.value.hint


@pytest.mark.slow
def test_it_makes_digits_more_robust_at_equal_epochs():
    train, test = (read_split("digits", name, None) for name in ("train", "test"))
    robust, right = {}, {}
    ways = {
        "plain": (),
        "fast": (ComponentSpec(kind="adversarial_training", params={"radius": 0.15, "method": "fast"}),),
        "trades": (ComponentSpec(kind="trades", params={"radius": 0.15, "steps": 3}),),
    }
    for name, defenses in ways.items():
        recipe = recipe_for("digits-cnn").model_copy(update={"epochs": 10, "defenses": defenses})
        module = fit(recipe, train.images, train.labels, seed=0).module
        right[name] = count_correct(module, test.images, test.labels) / len(test.labels)
        robust[name] = count_robust(module, test.images, test.labels, radius=0.15, steps=20, seed=0) / len(test.labels)
    assert min(right.values()) > 0.9
    assert robust["fast"] > robust["plain"] + 0.3
    assert robust["trades"] > robust["plain"] + 0.3
